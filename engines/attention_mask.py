"""Attention masks of decoders whose graphs have fixed sizes: 0 for what a token attends to, a low number elsewhere."""

from __future__ import annotations

import numpy as np


def causal_mask(count: int, past: int, rows: int, cache_rows: int, hidden: float) -> np.ndarray:
    """Computes the mask that is added to the scores of one call.

    A call has `rows` rows. The last `count` hold tokens, which attend to the first `past` rows of the cache, to each
    other causally and to themselves; the rows before them are padding, which attends to nothing.

    Args:
        count: rows that hold tokens.
        past: rows of the cache that hold tokens.
        rows: of the call, `count` or more.
        cache_rows: rows of the cache in the graph, `past` or more.
        hidden: added to the scores of what is not attended to.

    Returns:
        (1, 1, rows, cache_rows + rows) float32.
    """
    padding = rows - count
    mask = np.full((1, 1, rows, cache_rows + rows), hidden, np.float32)
    mask[..., padding:, :past] = 0
    mask[0, 0, padding:, cache_rows + padding :] = np.where(
        np.tri(count, dtype=bool), np.float32(0), np.float32(hidden)
    )
    return mask


def token_positions(count: int, past: int, rows: int) -> np.ndarray:
    """Returns the positions (rows,) of a call's rows for RoPE; those of padding are `past`.

    Args:
        count: rows that hold tokens, the last ones.
        past: tokens before them.
        rows: of the call.
    """
    return past + np.maximum(np.arange(rows) - (rows - count), 0)
