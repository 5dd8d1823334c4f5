"""Inputs of a decoder's call on TensorRT: lengths of the kv cache, attention mask and RoPE tables.

Engines are built for a few lengths of the cache, so that short conversations do not pay for long ones. A call reads the
smallest that holds its past; the mask hides the rest. The mask is finite and no row is masked everywhere: float16
softmax turns -inf and fully masked rows into NaN.
"""

from __future__ import annotations

import numpy as np

from mobilevlm.checkpoint.config import ModelConfig

from ..attention_mask import causal_mask, token_positions
from ..rope import full_tables
from ..stages import ATTENTION_MASK, ROPE_COS, ROPE_SIN

# Padding before the rows of a call, in its matrix products only: TensorRT keeps the weights of one-row products in a
# layout of their own, and an engine for prompts and tokens would hold all weights twice.
SPARE_ROWS = 1
PROMPT_ROWS = 128 - SPARE_ROWS  # most tokens of a call: products are quickest at multiples of 64
# Added to masked scores: far below any, and within float16 together with a score.
HIDDEN = -1e4
SMALLEST = 256


def past_buckets(max_context: int) -> tuple[int, ...]:
    """Returns the lengths of the cache that engines are built for: doubling, up to the whole context."""
    lengths = [min(SMALLEST, max_context)]
    while lengths[-1] < max_context:
        lengths.append(min(2 * lengths[-1], max_context))
    return tuple(lengths)


def call_inputs(config: ModelConfig, count: int, past: int, rows: int, bucket: int) -> dict[str, np.ndarray]:
    """Computes a graph's inputs besides embeddings and cache, by name.

    Args:
        config: the model.
        count: tokens of the call; they stand in its last rows.
        past: tokens in the cache.
        rows: of the call.
        bucket: rows of the cache that the call reads, `past` or more.

    Returns:
        Mask (1, 1, rows, bucket + rows), cosines and sines (1, rows, 1, head_dim), all float32, see
        `rope.full_tables`.
    """
    mask = causal_mask(count, past, rows, bucket, HIDDEN)
    np.fill_diagonal(mask[0, 0, :, bucket:], 0)  # padding attends to itself
    cos, sin = full_tables(config, token_positions(count, past, rows))
    return {ATTENTION_MASK: mask, ROPE_COS: cos[None, :, None], ROPE_SIN: sin[None, :, None]}
