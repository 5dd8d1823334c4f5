"""Memory of mapped files, given back while they are not needed."""

from __future__ import annotations

import ctypes
from pathlib import Path

MADV_DONTNEED = 4


def release(path: Path) -> None:
    """Take a mapped file's pages out of this process; they come back from the system's cache when they are read.

    Only where the system tells what is mapped (Linux); elsewhere nothing happens.
    """
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return
    libc = ctypes.CDLL(None)
    for line in lines:
        bounds, permissions, *rest = line.split(maxsplit=5)
        if len(rest) == 4 and rest[3] == str(path) and "w" not in permissions:
            start, end = (int(bound, 16) for bound in bounds.split("-"))
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), MADV_DONTNEED)
