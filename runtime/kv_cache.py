"""The kv cache of one sequence: its buffers, and what is in them, so that a known beginning is not run again."""

from __future__ import annotations

import mmap
from collections.abc import Hashable, Sequence
from math import prod

import numpy as np


class CachedPrefix:
    """Remembers which rows the kv cache holds, as one key for each row: a token id, or an image's digest and row."""

    def __init__(self) -> None:
        self._keys: list[Hashable] = []

    def __len__(self) -> int:
        """Rows in the cache."""
        return len(self._keys)

    def reusable(self, keys: Sequence[Hashable]) -> int:
        """Rows of a new sequence that are in the cache already; at least its last row is left to run."""
        limit = min(len(keys) - 1, len(self._keys))
        return next((row for row in range(limit) if keys[row] != self._keys[row]), limit)

    def keep(self, rows: int) -> None:
        """Forget all but the first rows: before they are overwritten, so that an interruption leaves no wrong key."""
        del self._keys[rows:]

    def append(self, keys: Sequence[Hashable]) -> None:
        """Note rows that have been run."""
        self._keys += keys


def empty_buffers(layers: int, heads: int, max_context: int, head_dim: int) -> dict[tuple[int, str], np.ndarray]:
    """Cache buffers by (layer, `key` or `value`): (1, heads, max_context, head_dim) float32.

    The pages of a row take memory only once it is written.
    """
    shape = (1, heads, max_context, head_dim)
    return {(layer, part): _zeros(shape) for layer in range(layers) for part in ("key", "value")}


def _zeros(shape: tuple[int, ...]) -> np.ndarray:
    """float32 zeros in small pages: numpy asks for huge ones, and rows that lie apart would fill each whole."""
    return np.frombuffer(mmap.mmap(-1, prod(shape) * np.dtype(np.float32).itemsize), np.float32).reshape(shape)
