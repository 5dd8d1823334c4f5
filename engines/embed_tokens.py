"""The embedding table, token ids to rows: `.npy` in float32, float16, or int8 with a scale for each row."""

from __future__ import annotations

import os
import tokenize
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO
from weakref import finalize

import numpy as np

from mobilevlm.errors import UserError

from .json_file import open_regular

SCALE, VALUES, LARGEST = "scale", "values", 127


def int8_row(width: int) -> np.dtype:
    """Returns the dtype of an int8 row: `width` values and their scale; the row is `values * scale`."""
    return np.dtype([(SCALE, "<f4"), (VALUES, "i1", (width,))])


def as_int8(rows: np.ndarray) -> np.ndarray:
    """Quantises (S, D) float32 to (S,) int8 rows, each with the smallest scale that reaches its largest value."""
    out = np.empty(len(rows), int8_row(rows.shape[1]))
    scales = np.abs(rows).max(1) / LARGEST
    out[SCALE] = scales
    out[VALUES] = np.rint(rows / np.where(scales > 0, scales, 1)[:, None])
    return out


def as_float32(stored: np.ndarray) -> np.ndarray:
    """Returns stored rows, (S, D) of floats or (S,) of int8 rows, as (S, D) float32."""
    if stored.dtype.names is None:
        return stored.astype(np.float32, copy=False)
    return stored[VALUES].astype(np.float32) * stored[SCALE][:, None]


# What numpy raises for a header that is damaged: it is Python's syntax.
UNREADABLE = (
    *(ValueError, KeyError, TypeError, SyntaxError, tokenize.TokenError, AttributeError, IndexError),
    *(MemoryError, RecursionError, OverflowError),
)


class TableError(ValueError):
    """A file that is no embedding table; the message says why."""


class EmbedTokens:
    """The table (V, D) in its file, of which single rows are read.

    It is not mapped: a row of kilobytes would bring up to 2 MiB of its neighbours into this process's memory.

    Attributes:
        shape: (V, D).
    """

    def __init__(self, path: Path):
        """Opens a `.npy` file.

        Raises:
            TableError: it is no table, or its size is not that of its header.
            OSError: it cannot be read.
        """
        self._path, self._file = path, open_regular(path)
        finalize(self, self._file.close)  # with the last reference to this, whatever became of who opened it
        self._dtype, self.shape = _header(self._file)
        self._begin = self._file.tell()
        self._is_int8 = self._dtype.names is not None
        self._count = 1 if self._is_int8 else self.shape[1]  # elements of a row
        needed = self._begin + self.shape[0] * self._count * self._dtype.itemsize
        if (size := os.fstat(self._file.fileno()).st_size) != needed:
            raise TableError(f"it has {size} bytes, its header means {needed}")

    def rows(self, ids: Iterable[int]) -> np.ndarray:
        """Returns the embeddings (S, D) float32 of (S,) token ids.

        Raises:
            UserError: an id is not below V.
        """
        ids = [int(token) for token in ids]
        if strange := [token for token in ids if not 0 <= token < self.shape[0]]:
            raise UserError(
                f"token {strange[0]} has no row in {self._path}, which has {self.shape[0]}: tokenizer and table are "
                "of different models. Copy the bundle again from where it was built"
            )
        return np.concatenate([self._row(token) for token in ids])

    def _row(self, token: int) -> np.ndarray:
        self._file.seek(self._begin + token * self._count * self._dtype.itemsize)
        # Not np.fromfile: Ctrl-C inside it becomes a TypeError.
        stored = np.frombuffer(self._file.read(self._count * self._dtype.itemsize), self._dtype)
        return as_float32(stored if self._is_int8 else stored.reshape(1, -1))


def _header(file: BinaryIO) -> tuple[np.dtype, tuple[int, int]]:
    """Returns dtype and shape (V, D) of a table; the file is behind its header then.

    Raises:
        TableError: it is no `.npy` file, or no table.
    """
    try:
        version = np.lib.format.read_magic(file)
        reads = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, is_fortran, dtype = reads[version](file)
    except UNREADABLE as error:
        raise TableError(f"it is no .npy file ({type(error).__name__})") from None
    if dtype in (np.dtype("<f4"), np.dtype("<f2")) and len(shape) == 2 and not is_fortran:
        return dtype, (shape[0], shape[1])
    if dtype.names == (SCALE, VALUES) and len(shape) == 1:
        values = dtype[VALUES].shape
        if len(values) == 1 and dtype == int8_row(values[0]):
            return dtype, (shape[0], values[0])
    raise TableError(f"it is no table: {str(dtype)[:80]} {shape}")
