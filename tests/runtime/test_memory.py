"""What stays in memory: rows of the kv cache that were written, pages of weights that are being read."""

import ctypes
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mobilevlm.engines.embed_tokens import EmbedTokens
from mobilevlm.pages import WINDOW, Pages, is_in_memory, read_in_large_pages, trim_heap
from mobilevlm.runtime.kv_cache import empty_buffers
from tests.export.test_architectures import MODEL

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the system tells only on Linux")
MIB = 2**20


def resident() -> int:
    """Bytes of this process in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def test_rows_of_the_kv_cache_take_memory_when_they_are_written():
    """A tenth of all rows, of every head: in huge pages they would fill the whole buffers."""
    before = resident()
    config = replace(MODEL, num_hidden_layers=4, num_attention_heads=16, num_key_value_heads=16, head_dim=128)
    buffers = empty_buffers(config, 2048, int8=False)
    for buffer in buffers.values():
        assert buffer.shape == (1, 16, 2048, 128) and buffer.dtype == np.float32
        buffer[:, :, :204] = 1
    total = sum(buffer.nbytes for buffer in buffers.values())
    assert 0.08 * total < resident() - before < 0.25 * total
    assert all(buffer[0, 15, 203].all() and not buffer[0, 15, 204:].any() for buffer in buffers.values())
    codes = empty_buffers(config, 2048, int8=True)
    assert {buffer.dtype for buffer in codes.values()} == {np.dtype(np.int8)} and codes.keys() == buffers.keys()


def test_a_mapped_file_leaves_memory_and_comes_back(tmp_path):
    """Copy on write, as ONNX Runtime maps weights; what was written to one such page is nowhere else, and stays."""
    file = tmp_path / "some weights"
    content = np.random.default_rng(0).integers(0, 256, 64 * MIB, np.uint8)
    content.tofile(file)
    mapped = np.memmap(file, np.uint8, "c")
    assert mapped.sum() == content.sum()
    pages, held = Pages(file), resident()
    assert pages.size == len(content)
    pages.release()
    assert held - resident() > 48 * MIB
    assert np.array_equal(mapped, content)
    mapped[5] ^= 255
    pages, held = Pages(file), resident()
    assert pages.size == 0
    pages.release()
    assert abs(held - resident()) < 16 * MIB
    assert mapped[5] == content[5] ^ 255


def test_as_much_as_was_asked_for_leaves_memory(tmp_path):
    """Weights are mapped one by one; as many as make up the size."""
    file = tmp_path / "weights"
    file.write_bytes(b"1" * (64 * MIB))
    mapped = [np.memmap(file, np.uint8, "c", start * MIB, (4 * MIB,)) for start in range(0, 64, 4)]
    assert sum(int(part.sum()) for part in mapped) == 64 * MIB * ord("1")
    pages, held = Pages(file), resident()
    assert pages.size == 64 * MIB
    pages.release(22 * MIB)
    assert 20 * MIB < held - resident() < 28 * MIB


def test_a_file_that_was_written_is_read_again_in_large_pages(tmp_path):
    content = np.random.default_rng(0).integers(0, 256, WINDOW + 4 * MIB + 5, np.uint8)
    content.tofile(tmp_path / "weights")
    read_in_large_pages(tmp_path / "weights")
    mapped = np.memmap(tmp_path / "weights", np.uint8, "c")
    assert np.array_equal(mapped, content)
    entry = next(
        one for one in Path("/proc/self/smaps").read_text().split("VmFlags") if f"{tmp_path / 'weights'}\n" in one
    )
    large = next(1024 * int(line.split()[1]) for line in entry.splitlines() if line.startswith("FilePmdMapped"))
    if not large:
        pytest.skip("this system has no large pages for files")
    assert large >= WINDOW


def test_what_was_read_is_in_memory_and_what_was_let_go_is_not(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(bytes(8 * MIB))
    assert is_in_memory(path)
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if is_in_memory(path):
        pytest.skip("this file system keeps its files in memory, or does not tell")
    path.read_bytes()
    assert is_in_memory(path)


def test_rows_of_the_table_are_read_as_they_are_asked_for(tmp_path):
    """What the file holds, whatever its type; mapped, such rows would bring a good part of it into memory."""
    rng = np.random.default_rng(0)
    for dtype in (np.float16, np.float32):
        stored = rng.standard_normal((8192, 2048), np.float32).astype(dtype)
        np.save(tmp_path / "table.npy", stored)
        ids = rng.integers(0, 8192, 300)
        expected, held = stored[ids].astype(np.float32), resident()
        table = EmbedTokens(tmp_path / "table.npy")
        rows = table.rows(ids)
        assert resident() - held < 3 * rows.nbytes
        assert table.shape == stored.shape and rows.dtype == np.float32
        np.testing.assert_array_equal(rows, expected)


def test_what_was_freed_leaves_memory():
    """Small pieces, which the C library keeps for what comes next; every other one is still in use."""
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("another C library")
    pieces = [np.ones(20_000, np.uint8) for _ in range(4000)]
    kept, held = pieces[::2], resident()
    del pieces
    freed = resident()
    trim_heap()
    assert held - resident() > 20 * MIB > held - freed
    assert all(piece.all() for piece in kept)
