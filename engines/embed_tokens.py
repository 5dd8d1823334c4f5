"""The embedding table, token ids to rows: `.npy` in float32, float16, or int8 with a scale for each row."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from weakref import finalize

import numpy as np

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


class EmbedTokens:
    """The table (V, D) in its file, of which single rows are read.

    It is not mapped: a row of kilobytes would bring up to 2 MiB of its neighbours into this process's memory.

    Attributes:
        shape: (V, D).
    """

    def __init__(self, path: Path):
        """Opens a `.npy` file."""
        stored = np.load(path, mmap_mode="r")
        self._dtype, self._begin = stored.dtype, stored.offset
        self._is_int8 = stored.dtype.names is not None
        width = stored.dtype[VALUES].shape[0] if self._is_int8 else stored.shape[1]
        self._count = 1 if self._is_int8 else width  # elements of a row
        self.shape = len(stored), width
        self._file = path.open("rb")
        finalize(self, self._file.close)  # with the last reference to this, whatever became of who opened it

    def rows(self, ids: Iterable[int]) -> np.ndarray:
        """Returns the embeddings (S, D) float32 of (S,) token ids below V."""
        return np.concatenate([self._row(int(token)) for token in ids])

    def _row(self, token: int) -> np.ndarray:
        self._file.seek(self._begin + token * self._count * self._dtype.itemsize)
        # Not np.fromfile: Ctrl-C inside it becomes a TypeError.
        stored = np.frombuffer(self._file.read(self._count * self._dtype.itemsize), self._dtype)
        return as_float32(stored if self._is_int8 else stored.reshape(1, -1))
