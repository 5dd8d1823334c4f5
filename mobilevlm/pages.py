"""Memory of mapped files, given back while they are not needed."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

MADV_DONTNEED = 4
MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \S+ +(.*)")


class Pages:
    """Where a file is mapped into this process, looked up once: it takes the system as long as a layer to run.

    A mapping that was written to is left alone: its pages are nowhere else. Only where the system tells what is mapped
    (Linux); elsewhere there is nothing to give back. None for a file that stays: the system takes its pages when short.
    """

    def __init__(self, path: Path | None):
        self._ranges: list[tuple[int, int]] = []
        if path is None:
            return
        try:
            lines = Path("/proc/self/smaps").read_text().splitlines()
        except OSError:
            return
        bounds = None
        for line in lines:
            if (mapping := MAPPING.fullmatch(line)) is not None:
                begin, end = (int(bound, 16) for bound in mapping.groups()[:2])
                bounds = (begin, end - begin) if mapping[3] == str(path) else None
            elif bounds and line.startswith("Anonymous:") and line.split()[1] == "0":
                self._ranges.append(bounds)

    @property
    def size(self) -> int:
        """Bytes that are mapped."""
        return sum(length for _, length in self._ranges)

    def release(self, size: int | None = None) -> None:
        """Take `size` bytes or a little more, None for all, out of this process: reading them brings them back."""
        left = self.size if size is None else size
        for begin, length in self._ranges:
            if left <= 0:
                break
            ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(length), MADV_DONTNEED)
            left -= length
