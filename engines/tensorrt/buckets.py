"""How rows are fed to a decoder on TensorRT: lengths of its cache, masks and RoPE's tables of a call.

Engines are made for a few lengths of the cache, so that short talks do not pay for long ones. A call gets the smallest
that holds its past; the mask hides what is not the past. It is finite and no row is masked everywhere: of -inf, and of
rows that see nothing, float16 softmax makes NaN.
"""

from __future__ import annotations

import numpy as np

from mobilevlm.checkpoint.config import ModelConfig

from ..stages import ATTENTION_MASK, ROPE_COS, ROPE_SIN

# Before the rows of a call, in its products and nowhere else: those of one row read weights in a layout of their own,
# and an engine for prompts and tokens would hold all weights twice.
SPARE_ROWS = 1
PROMPT_ROWS = 128 - SPARE_ROWS  # most of a call: products are quickest at multiples of 64
# Added to scores: far below any, and float16 still has it and its sum with a score.
HIDDEN = -1e4
SMALLEST = 256


def past_buckets(max_context: int) -> tuple[int, ...]:
    """Lengths of the cache that engines are made for: doubling; the last holds all of the context."""
    lengths = [min(SMALLEST, max_context)]
    while lengths[-1] < max_context:
        lengths.append(min(2 * lengths[-1], max_context))
    return tuple(lengths)


def call_inputs(config: ModelConfig, count: int, past: int, rows: int, bucket: int) -> dict[str, np.ndarray]:
    """What a graph reads besides rows and cache.

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


def _turns(config: ModelConfig, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines (rows, head_dim / 2) float32 of RoPE's angles."""
    half = config.head_dim // 2
    angles = np.outer(positions, config.rope_theta ** -(np.arange(half) / half))
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
