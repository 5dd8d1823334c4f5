"""How rows are fed to a decoder on TensorRT: lengths of its cache, masks and RoPE's tables of a call.

Engines are made for a few lengths of the cache, so that short talks do not pay for long ones. A call gets the smallest
that holds its past (`delta`), or the whole cache (`fused`); the mask hides what is not the past. It is finite and no
row is masked everywhere: of -inf, and of rows that see nothing, float16 softmax makes NaN.
"""

from __future__ import annotations

import numpy as np

from mobilevlm.config import ModelConfig

from ..chunks import PROMPT_ROWS
from ..stages import ATTENTION_MASK, LAST_ROW, ROPE_COS, ROPE_SIN, WRITE_INDICES

__all__ = ["HIDDEN", "PROMPT_ROWS", "delta_inputs", "fused_inputs", "past_buckets"]

# Added to scores: far below any, and float16 still has it and its sum with a score.
HIDDEN = -1e4
SMALLEST = 256


def past_buckets(max_context: int) -> tuple[int, ...]:
    """Lengths of the cache that engines are made for: doubling; the last holds all of the context."""
    lengths = [min(SMALLEST, max_context)]
    while lengths[-1] < max_context:
        lengths.append(min(2 * lengths[-1], max_context))
    return tuple(lengths)


def delta_inputs(config: ModelConfig, count: int, past: int, rows: int, bucket: int) -> dict[str, np.ndarray]:
    """What a graph of the `delta` lowering reads besides rows and cache.

    Args:
        config: the model.
        count: rows that mean something; they stand at the end of the call.
        past: rows of the cache that they see.
        rows: of the call.
        bucket: rows of the cache that the call looks at, `past` or more.

    Returns:
        Mask (1, 1, rows, bucket + rows), cosines and sines (1, rows, 1, head_dim), the latter with minus signs in its
        first half, all float32: a pair is turned by `x * cos + (x's halves swapped) * sin`.
    """
    empty = rows - count
    mask = np.full((1, 1, rows, bucket + rows), HIDDEN, np.float32)
    mask[..., empty:, :past] = 0
    among = mask[0, 0, :, bucket:]
    np.fill_diagonal(among, 0)  # rows that mean nothing see themselves
    among[empty:, empty:] = np.where(np.tri(count, dtype=bool), 0, HIDDEN)
    cos, sin = _turns(config, past + np.maximum(np.arange(rows) - empty, 0))
    tables = {ROPE_COS: np.concatenate([cos, cos], 1), ROPE_SIN: np.concatenate([-sin, sin], 1)}
    return {ATTENTION_MASK: mask} | {name: table[None, :, None] for name, table in tables.items()}


def fused_inputs(config: ModelConfig, count: int, past: int, rows: int, capacity: int) -> dict[str, np.ndarray]:
    """What a graph of the `fused` lowering reads besides rows and cache.

    Args:
        config: the model.
        count: rows that mean something; they stand at the beginning of the call. Those behind them are written into the
            cache, too, and have to fit.
        past: rows of the cache that they see, and behind which they are written.
        rows: of the call.
        capacity: of the cache.

    Returns:
        Mask (1, 1, rows, capacity), cosines and sines (1, rows, head_dim / 2), all float32; the first cache row that
        is written and the last row that means something, (1,) int64 each.

    Raises:
        ValueError: rows would be written behind the cache's end, which TensorRT passes over in silence.
    """
    if past + rows > capacity:
        raise ValueError(f"{rows} rows behind {past} are more than the cache's {capacity}")
    seen = np.arange(capacity) <= past + np.arange(rows)[:, None]
    cos, sin = _turns(config, past + np.arange(rows))
    return {
        ATTENTION_MASK: np.where(seen, np.float32(0), np.float32(HIDDEN))[None, None],
        ROPE_COS: cos[None],
        ROPE_SIN: sin[None],
        WRITE_INDICES: np.array([past], np.int64),
        LAST_ROW: np.array([count - 1], np.int64),
    }


def _turns(config: ModelConfig, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines (rows, head_dim / 2) float32 of RoPE's angles."""
    half = config.head_dim // 2
    angles = np.outer(positions, config.rope_theta ** -(np.arange(half) / half))
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
