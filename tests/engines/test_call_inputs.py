"""Attention masks and RoPE tables of decoders with fixed sizes, against their definitions written out."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from mobilevlm.engines import chunks
from mobilevlm.engines.attention_mask import causal_mask, token_positions
from mobilevlm.engines.rope import full_tables, half_tables
from mobilevlm.engines.stages import ATTENTION_MASK, ROPE_COS, ROPE_SIN
from mobilevlm.engines.tensorrt import buckets

CONFIG = SimpleNamespace(head_dim=16, rope_theta=10000.0)
# Tokens, past, rows of the call, rows of the cache.
CALLS = [(1, 0, 1, 4), (1, 3, 1, 4), (2, 0, 5, 4), (5, 4, 5, 4), (3, 2, 8, 6)]


def attends(row: int, column: int, count: int, past: int, rows: int, cache_rows: int) -> bool:
    """Whether a row of a call attends to a column: the cache, then the call's own rows."""
    padding = rows - count
    if row < padding:
        return False
    return column < past if column < cache_rows else padding <= column - cache_rows <= row


@pytest.mark.parametrize("call", CALLS)
def test_masks(call):
    count, past, rows, cache_rows = call
    mask = causal_mask(count, past, rows, cache_rows, -7)
    wanted = [[0 if attends(r, c, *call) else -7 for c in range(cache_rows + rows)] for r in range(rows)]
    assert mask.dtype == np.float32 and np.array_equal(mask, np.array([[wanted]]))
    assert np.array_equal(chunks.positions(CONFIG, *call)[ATTENTION_MASK] == 0, mask == 0)
    strided = buckets.call_inputs(CONFIG, *call)[ATTENTION_MASK][0, 0]
    itself = np.eye(rows, cache_rows + rows, cache_rows, dtype=bool)  # no row may be masked everywhere
    assert np.array_equal(strided == 0, (mask[0, 0] == 0) | itself)


@pytest.mark.parametrize("call", CALLS)
def test_tables(call):
    count, past, rows, _ = call
    where = token_positions(count, past, rows)
    assert where.tolist() == [past] * (rows - count) + list(range(past, past + count))
    cos, sin = half_tables(CONFIG, where)
    for row, position in enumerate(where):
        angles = [position / 10000.0 ** (pair / 8) for pair in range(8)]
        assert cos[row] == pytest.approx([math.cos(angle) for angle in angles], abs=1e-6)
        assert sin[row] == pytest.approx([math.sin(angle) for angle in angles], abs=1e-6)
    for feeds, shape in ((chunks.positions, (1, 1, rows, 16)), (buckets.call_inputs, (1, rows, 1, 16))):
        found = feeds(CONFIG, *call)
        assert found[ROPE_COS].shape == found[ROPE_SIN].shape == shape and found[ROPE_COS].dtype == np.float32
        full = [table.reshape(rows, 16) for table in (found[ROPE_COS], found[ROPE_SIN])]
        assert all(map(np.array_equal, full, full_tables(CONFIG, where)))


def test_a_rotation_keeps_lengths_and_relative_positions():
    rng = np.random.default_rng(2)
    query, key = rng.normal(size=(2, 16)).astype(np.float32)
    cos, sin = full_tables(CONFIG, np.arange(60))
    rotated = [[row * cos[p] + np.roll(row, 8) * sin[p] for p in range(60)] for row in (query, key)]
    assert np.linalg.norm(rotated[0], axis=1) == pytest.approx(np.full(60, np.linalg.norm(query)), rel=1e-5)
    assert rotated[0][9] @ rotated[1][2] == pytest.approx(rotated[0][57] @ rotated[1][50], abs=1e-4)
