"""Token ids to rows of the stored table."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from weakref import finalize

import numpy as np


class EmbedTokens:
    """The table (V, D), of which only what is asked for is read.

    Mapped, a row of kilobytes would bring up to 2 MiB of its neighbours into this process's memory.

    Attributes:
        shape: (V, D).
    """

    def __init__(self, path: Path):
        """Open a table that was stored as `.npy`."""
        stored = np.load(path, mmap_mode="r")
        self.shape, self._dtype, self._begin = stored.shape, stored.dtype, stored.offset
        self._file = path.open("rb")
        finalize(self, self._file.close)  # with the last reference to this, whatever became of who opened it

    def rows(self, ids: Iterable[int]) -> np.ndarray:
        """(S,) ids below V to (S, D) float32."""
        return np.concatenate([self._row(int(token)) for token in ids]).astype(np.float32, copy=False)

    def _row(self, token: int) -> np.ndarray:
        width = self.shape[1]
        self._file.seek(self._begin + token * width * self._dtype.itemsize)
        return np.fromfile(self._file, self._dtype, width).reshape(1, width)
