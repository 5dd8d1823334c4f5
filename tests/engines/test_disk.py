"""Reading past the system's file cache: the file's content, and a cache that stays as it was."""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import sys
from pathlib import Path

import pytest

from mobilevlm.engines import disk
from mobilevlm.engines.disk import SLICE_BYTES, read_from_disk


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, SLICE_BYTES, SLICE_BYTES + 1, 3 * SLICE_BYTES + 4096])
@pytest.mark.parametrize("folder", ["disk", "memory"])
def test_what_is_read_from_the_disk_is_the_file(size, folder, tmp_path):
    """Also what was written this moment; and where a file system has no direct reads, or refuses them late."""
    path = (tmp_path if folder == "disk" else Path("/dev/shm")) / f"rot-{os.getpid()}"
    try:
        path.write_bytes(content := hashlib.shake_128(b"disk").digest(size))
        assert b"".join(bytes(part) for part in read_from_disk(path)) == content
    finally:
        path.unlink(missing_ok=True)


def cached(path):
    """Whether each page of a file is in the system's cache."""
    size = path.stat().st_size
    pages = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
    with path.open("r+b") as file, mmap.mmap(file.fileno(), size) as mapped:
        first = ctypes.c_char.from_buffer(mapped)
        status = ctypes.CDLL(None).mincore(ctypes.c_void_p(ctypes.addressof(first)), ctypes.c_size_t(size), pages)
        del first
    assert status == 0
    return [page & 1 for page in pages]


@pytest.mark.skipif(sys.platform != "linux", reason="mincore is asked")
@pytest.mark.parametrize("is_direct", [True, False])
def test_reading_leaves_the_cache_as_it_was(is_direct, tmp_path, monkeypatch):
    if not is_direct:
        monkeypatch.setattr(disk, "_set_direct", lambda file, is_wanted: False)
    path = tmp_path / "file"
    path.write_bytes(bytes(4 * SLICE_BYTES))
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if any(cached(path)):
            pytest.skip("a file system that has no disk")
        assert sum(map(len, read_from_disk(path))) == 4 * SLICE_BYTES
        assert not any(cached(path))
        file.seek(SLICE_BYTES)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        file.read(SLICE_BYTES)
        before = cached(path)
        assert any(before) and not all(before)
        list(read_from_disk(path))
        assert cached(path) == before
