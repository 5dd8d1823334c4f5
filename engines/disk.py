"""Reads files from the disk past the system's file cache, whose pages say nothing about the disk and belong to others.

Direct reads neither fill the cache nor drop pages of it, and see what other programs have just written. File systems
that have none (squashfs, for one) are read through the cache, and what was not in it before is let go again.
System calls: https://man7.org/linux/man-pages/man2/open.2.html and .../ioprio_set.2.html
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .json_file import open_regular

if sys.platform == "linux":
    import fcntl

SLICE_BYTES = 1 << 20  # read at a time: half a millisecond of hashing
IOPRIO_SET = {"x86_64": 251, "aarch64": 30}  # number of the system call by architecture
WHO_THREAD, CLASS_IDLE = 1, 3 << 13


def read_from_disk(path: Path) -> Iterator[memoryview]:
    """Yields a file's content slice by slice; each slice is valid until the next.

    Args:
        path: of the file.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    with open_regular(path) as file, mmap.mmap(-1, SLICE_BYTES) as buffer, memoryview(buffer) as view:  # aligned
        is_direct, offset, size = _set_direct(file, True), 0, os.fstat(file.fileno()).st_size
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)  # no reading ahead into the cache
        while offset < size:
            was_there = is_direct or _is_cached(file, offset)
            try:
                count = _read(file, buffer, offset)
            except OSError as error:
                if not is_direct or error.errno != errno.EINVAL:
                    raise
                is_direct = _set_direct(file, False)  # refused at reading only
                continue
            if not count:  # it has become shorter
                return
            with view[:count] as found:
                yield found
            if not was_there:
                forget_cached(file, offset, count)
            offset += count


def forget_cached(file: BinaryIO, offset: int = 0, count: int = 0) -> None:
    """Drops pages of a file from the system's cache, but for those that are mapped somewhere or not on the disk yet.

    Args:
        file: open for reading.
        offset: of the first byte.
        count: of bytes; 0 for all that follow.
    """
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), offset, count, os.POSIX_FADV_DONTNEED)


def lower_disk_priority() -> None:
    """Makes this thread's reads wait for all others', where the system and its disk scheduler have such a class."""
    number = IOPRIO_SET.get(platform.machine()) if sys.platform == "linux" else None
    if number is not None:
        ctypes.CDLL(None).syscall(number, WHO_THREAD, 0, CLASS_IDLE)


def _set_direct(file: BinaryIO, is_wanted: bool) -> bool:
    """Switches direct reading on or off; returns whether it is on."""
    if sys.platform != "linux":
        return False
    flags = fcntl.fcntl(file, fcntl.F_GETFL) & ~os.O_DIRECT
    try:
        fcntl.fcntl(file, fcntl.F_SETFL, flags | os.O_DIRECT * is_wanted)
    except OSError:  # the file system has none
        return False
    return is_wanted


def _read(file: BinaryIO, buffer: mmap.mmap, offset: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(file.fileno(), [buffer], offset)
    file.seek(offset)
    content = file.read(len(buffer))
    buffer[: len(content)] = content
    return len(content)


def _is_cached(file: BinaryIO, offset: int) -> bool:
    """Whether a place of a file is in the system's cache; True where the system does not tell."""
    try:
        os.preadv(file.fileno(), [bytearray(1)], offset, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except (OSError, AttributeError):  # a file system or a system that cannot tell
        pass
    return True
