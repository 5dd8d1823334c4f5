"""Memory of mapped files, given back while they are not needed."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

MADV_DONTNEED = 4
MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \S+ +(.*)")


def release(path: Path) -> None:
    """Take a mapped file's pages out of this process; they come back from the system's cache when they are read.

    A mapping that was written to is left alone: its pages are nowhere else. Only where the system tells what is mapped
    (Linux); elsewhere nothing happens.
    """
    try:
        lines = Path("/proc/self/smaps").read_text().splitlines()
    except OSError:
        return
    libc, bounds = ctypes.CDLL(None), None
    for line in lines:
        if (mapping := MAPPING.fullmatch(line)) is not None:
            bounds = [int(bound, 16) for bound in mapping.groups()[:2]] if mapping[3] == str(path) else None
        elif bounds and line.startswith("Anonymous:") and line.split()[1] == "0":
            libc.madvise(ctypes.c_void_p(bounds[0]), ctypes.c_size_t(bounds[1] - bounds[0]), MADV_DONTNEED)
