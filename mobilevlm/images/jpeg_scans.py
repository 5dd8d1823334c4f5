"""Scans of a JPEG: how often its decoder goes over the whole image, and so what a small file can cost."""

from __future__ import annotations

import re

_NEXT_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
_MOST_SEGMENTS = 20_000
_SCAN, _END = 0xDA, 0xD9


def count_scans(data: bytes) -> int:
    """Counts the scans of the first image in a file: 1 for a baseline JPEG, about 10 for a progressive one.

    Thumbnails, gain maps and videos behind it do not count. Stops counting in files of absurdly many segments.
    """
    scans, at = 0, 2
    for _ in range(_MOST_SEGMENTS):
        found = _NEXT_MARKER.search(data, at)
        if found is None or (marker := data[found.start() + 1]) == _END:
            return scans
        scans += marker == _SCAN
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
    return _MOST_SEGMENTS
