"""Memory of mapped files: gives pages back while they are not needed, and asks for large pages where there are any.

A page of 2 MiB takes one entry of the CPU's page tables where small pages take 512: weights are read faster, and the
page is given back and mapped again at next to no cost. A file has large pages when it was read under that hint.
System call: https://man7.org/linux/man-pages/man2/madvise.2.html
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import re
import sys
from functools import cache
from pathlib import Path

MADV_DONTNEED, MADV_HUGEPAGE, MADV_POPULATE_READ = 4, 14, 22
WINDOW = 64 * 2**20  # of a file, mapped at a time; smaller files are not worth reading twice
MAPPING = re.compile(r"(?P<begin>[0-9a-f]+)-(?P<end>[0-9a-f]+) (?P<allowed>\S+) \S+ \S+ \S+ +(?P<path>.*)")


class Pages:
    """The ranges at which a file is mapped into this process, looked up once: that takes as long as running a layer.

    A mapping that was written to is left alone: its pages are nowhere else. Works on Linux; on other systems `size` is
    0 and nothing is given back.
    """

    def __init__(self, path: Path):
        self._ranges: list[tuple[int, int]] = []
        try:
            maps = Path("/proc/self/maps").read_text().splitlines()
            mappings = [found for line in maps if (found := MAPPING.fullmatch(line)) and found["path"] == str(path)]
            # What was written to takes the system milliseconds to say, and is asked where writing is allowed.
            written = _written(path) if any("w" in found["allowed"] for found in mappings) else set()
        except OSError:
            return
        for found in mappings:
            begin, end = int(found["begin"], 16), int(found["end"], 16)
            if begin not in written:
                self._ranges.append((begin, end - begin))
                _advise(begin, end - begin, MADV_HUGEPAGE)  # for what is not in memory yet

    @property
    def size(self) -> int:
        """Number of bytes that are mapped."""
        return sum(length for _, length in self._ranges)

    def release(self, size: int | None = None) -> None:
        """Give back `size` bytes or a little more, None for all; reading them maps them again."""
        left = self.size if size is None else size
        for begin, length in self._ranges:
            if left <= 0:
                break
            _advise(begin, length, MADV_DONTNEED)
            left -= length


def read_in_large_pages(path: Path) -> None:
    """Make the system read a file again in large pages: what was written or copied lies in small ones.

    Where there are no large pages, or the file's cache cannot be dropped, nothing changes.
    """
    if not hasattr(mmap, "MADV_HUGEPAGE") or (size := path.stat().st_size) < WINDOW:
        return
    with path.open("rb") as file, contextlib.suppress(OSError):
        os.fsync(file.fileno())  # only what is on disk is let go
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        for begin in range(0, size, WINDOW):
            with mmap.mmap(file.fileno(), min(WINDOW, size - begin), access=mmap.ACCESS_READ, offset=begin) as window:
                window.madvise(mmap.MADV_HUGEPAGE)
                window.madvise(MADV_POPULATE_READ)


def is_in_memory(path: Path) -> bool:
    """Whether the middle of a file is in the system's file cache; True where the system does not tell."""
    if not hasattr(os, "RWF_NOWAIT"):
        return True
    with path.open("rb") as file:
        try:
            os.preadv(file.fileno(), [bytearray(1)], path.stat().st_size // 2, os.RWF_NOWAIT)
        except BlockingIOError:
            return False
        except OSError:  # a file system that cannot tell
            pass
    return True


def trim_heap() -> None:
    """Give freed memory of the C library's heap back to the system, where that library is GNU's."""
    if sys.platform == "linux" and hasattr(_libc(), "malloc_trim"):
        _libc().malloc_trim(0)


def _written(path: Path) -> set[int]:
    """Addresses at which mappings of a file begin that have private, written pages."""
    found: set[int] = set()
    begin: int | None = None
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if (mapping := MAPPING.fullmatch(line)) is not None:
            begin = int(mapping["begin"], 16) if mapping["path"] == str(path) else None
        elif begin is not None and line.startswith("Anonymous:") and line.split()[1] != "0":
            found.add(begin)
    return found


def _advise(begin: int, length: int, advice: int) -> None:
    _libc().madvise(ctypes.c_void_p(begin), ctypes.c_size_t(length), advice)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
