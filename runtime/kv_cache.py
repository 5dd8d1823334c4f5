"""The kv cache of one sequence: its buffers, and what is in them, so that a known beginning is not run again."""

from __future__ import annotations

import mmap
from collections.abc import Hashable, Mapping, Sequence
from math import prod

import numpy as np

from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.engines.stages import CACHE_PARTS
from mobilevlm.errors import UserError


class CachedPrefix:
    """Remembers which tokens the kv cache holds, by one key for each: a token id, or an image's digest and an index."""

    def __init__(self) -> None:
        self._keys: list[Hashable] = []

    def __len__(self) -> int:
        """Number of tokens in the cache."""
        return len(self._keys)

    def reusable(self, keys: Sequence[Hashable]) -> int:
        """Counts the tokens of a new sequence that are in the cache already; at least its last is left to run."""
        limit = min(len(keys) - 1, len(self._keys))
        return next((index for index in range(limit) if keys[index] != self._keys[index]), limit)

    def keep(self, count: int) -> None:
        """Forgets all but the first tokens, before the rest is overwritten: an interruption leaves no wrong key."""
        del self._keys[count:]

    def append(self, keys: Sequence[Hashable]) -> None:
        """Notes tokens that have been run."""
        self._keys += keys


def empty_buffers(config: ModelConfig, max_context: int, int8: bool) -> dict[tuple[int, str], np.ndarray]:
    """Makes cache buffers by (layer, `key` or `value`): (1, kv heads, max_context, head_dim), int8 or float32.

    A token's pages take memory only once they are written.

    Args:
        config: the model.
        max_context: tokens.
        int8: whether they are int8, as with a separate prefill (`StageForm.cache_dtype`).
    """
    shape = (1, config.num_key_value_heads, max_context, config.head_dim)
    dtype = np.dtype(np.int8 if int8 else np.float32)
    return {(layer, part): _zeros(shape, dtype) for layer in range(config.num_hidden_layers) for part in CACHE_PARTS}


def write_rows(buffer: np.ndarray, past: int, rows: np.ndarray) -> None:
    """Writes keys or values of S tokens into a cache buffer.

    Args:
        buffer: (1, kv heads, max_context, head_dim).
        past: tokens of the cache that stay; the new ones follow them.
        rows: (1, S, kv heads * head_dim), in the buffer's dtype.
    """
    heads, count = buffer.shape[1], rows.shape[1]
    # Eight bytes at a time: a row of a head has sixteen values or a multiple of that.
    words = np.ascontiguousarray(rows[0]).view(np.int64).reshape(count, heads, -1)
    buffer.view(np.int64)[0, :, past : past + count] = words.swapaxes(0, 1)


def read_buffers(buffers: Mapping[tuple[int, str], np.ndarray], start: int, stop: int) -> np.ndarray:
    """Copies tokens out of all cache buffers, see `runner.Runner.read_cache`.

    Args:
        buffers: those of `empty_buffers`, in its order.
        start: index of the first token.
        stop: index behind the last one.

    Returns:
        (2 * layers, kv heads, stop - start, head_dim).
    """
    return np.stack([buffer[0, :, start:stop] for buffer in buffers.values()])


def write_buffers(buffers: Mapping[tuple[int, str], np.ndarray], start: int, rows: np.ndarray) -> None:
    """Copies tokens into all cache buffers.

    Args:
        buffers: those of `empty_buffers`, in its order.
        start: index of the first token.
        rows: what `read_buffers` returned.
    """
    for buffer, values in zip(buffers.values(), rows, strict=True):
        buffer[0, :, start : start + values.shape[1]] = values


def _zeros(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Makes zeros in small pages: numpy asks for huge ones, and rows that lie apart would fill each whole.

    Args:
        shape: of the array.
        dtype: of its values.

    Raises:
        UserError: the system has no memory for them.
    """
    size = prod(shape) * dtype.itemsize
    try:
        return np.frombuffer(mmap.mmap(-1, size), dtype).reshape(shape)
    except (OSError, OverflowError):
        raise UserError(
            f"there is no memory for the kv cache, {size / 1e6:.0f} MB for a layer's keys: close other programs, or "
            "build the bundle with a smaller --max-context"
        ) from None
