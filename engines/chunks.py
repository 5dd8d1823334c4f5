"""How rows are fed to a decoder of the `delta` lowering: the contract of export and runtime.

A graph takes `chunk` rows at a time; fewer stand at its end, behind rows that nothing attends to, so that the last row
is always the last. It reads a cache of `cache_rows` rows and hands out its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mobilevlm.checkpoint.config import ModelConfig

from . import stages
from .stages import (
    ATTENTION_MASK,
    CACHE_PARTS,
    HIDDEN_STATES,
    INPUTS_EMBEDS,
    LOGITS,
    NEXT_HIDDEN_STATES,
    ROPE_COS,
    ROPE_SIN,
    new_rows,
)

Run = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]

# Added to the scores of what is not to be seen. Softmax leaves nothing of e**-120, and the step of 16-bit scores, which
# this is the range of, stays at some thousandths.
HIDDEN = np.float32(-120)
PROMPT_ROWS = 128


def cache_shape(config: ModelConfig, part: str, rows: Any) -> tuple[Any, ...]:
    """(1, kv heads, head_dim, rows) of keys, (1, kv heads, rows, head_dim) of values."""
    last = (config.head_dim, rows) if part == "key" else (rows, config.head_dim)
    return 1, config.num_key_value_heads, *last


def chunks(rows: int, chunk: int) -> Iterator[slice]:
    """A prompt of `rows` rows, cut; the first piece is the short one."""
    stop = (rows - 1) % chunk + 1
    start = 0
    while start < rows:
        yield slice(start, stop)
        start, stop = stop, stop + chunk


def filled(rows: np.ndarray, chunk: int) -> np.ndarray:
    """(n, D) float32 rows as (1, chunk, D), zeros in front."""
    out = np.zeros((1, chunk, rows.shape[1]), np.float32)
    out[0, chunk - len(rows) :] = rows
    return out


def positions(config: ModelConfig, count: int, past: int, chunk: int, cache_rows: int) -> dict[str, np.ndarray]:
    """Mask (1, 1, S, P + S) and RoPE's tables (1, 1, S, Dh) of a chunk of `count` rows behind `past` rows of the cache.

    The second table has minus signs in its first half: a pair is turned by `x * cos + (x's halves swapped) * sin`.
    """
    empty = chunk - count
    mask = np.full((1, 1, chunk, cache_rows + chunk), HIDDEN, np.float32)
    mask[..., empty:, :past] = 0
    ahead = np.triu(np.ones((count, count), bool), 1)
    mask[0, 0, empty:, cache_rows + empty :] = np.where(ahead, HIDDEN, np.float32(0))
    half = config.head_dim // 2
    frequencies = 1.0 / config.rope_theta ** (np.arange(half) / half)
    at = np.maximum(np.arange(chunk) - empty, 0) + past
    angles = np.outer(at, frequencies)
    cos, sin = np.cos(angles), np.sin(angles)
    tables = {ROPE_COS: np.concatenate([cos, cos], 1), ROPE_SIN: np.concatenate([-sin, sin], 1)}
    return {ATTENTION_MASK: mask} | {name: table[None, None].astype(np.float32) for name, table in tables.items()}


class ChunkedDecoder:
    """A decoder of the `delta` lowering, over whatever runs its graphs.

    Args:
        config: the model.
        cache_rows: that the cache holds.
        graphs: rows of a call to what runs them, in the order of their layers: by name from inputs to outputs.
        layers: of each of these.
        dtype: of the cache: uint8 codes, or float32 while a graph is still one of floats.
    """

    def __init__(
        self,
        config: ModelConfig,
        cache_rows: int,
        graphs: Mapping[int, Sequence[Run]],
        layers: Sequence[range],
        dtype: type[np.generic] = np.uint8,
    ):
        self._config, self._cache_rows, self._graphs, self._layers = config, cache_rows, graphs, layers
        parts = [(layer, part) for layer in range(config.num_hidden_layers) for part in CACHE_PARTS]
        # What is behind the past is never looked at, but has to be a number.
        self.buffers = {key: np.zeros(cache_shape(config, key[1], cache_rows), dtype) for key in parts}

    def decode(self, inputs_embeds: np.ndarray, past: int) -> np.ndarray:
        """Run (S, D) float32 rows behind the first `past` of the cache, which get theirs: (V,) logits of the last."""
        chunk = 1 if len(inputs_embeds) == 1 else max(self._graphs)
        for piece in chunks(len(inputs_embeds), chunk):
            logits = self._run(chunk, inputs_embeds[piece], past + piece.start)
        return logits

    def _run(self, chunk: int, rows: np.ndarray, past: int) -> np.ndarray:
        count = len(rows)
        where = positions(self._config, count, past, chunk, self._cache_rows)
        name, values = INPUTS_EMBEDS, filled(rows, chunk)
        for run, layers in zip(self._graphs[chunk], self._layers, strict=True):
            caches = [(layer, part) for layer in layers for part in CACHE_PARTS]
            outputs = run(where | {name: values} | {stages.past(*key): self.buffers[key] for key in caches})
            for key in caches:
                _keep_rows(self.buffers[key], key[1], outputs[new_rows(*key)], past, count)
            name, values = HIDDEN_STATES, outputs.get(NEXT_HIDDEN_STATES)
        return outputs[LOGITS][0]


def _keep_rows(buffer: np.ndarray, part: str, rows: np.ndarray, past: int, count: int) -> None:
    """Write the last `count` new rows of a chunk behind the past."""
    if part == "key":
        buffer[..., past : past + count] = rows[..., rows.shape[3] - count :]
    else:
        buffer[:, :, past : past + count] = rows[:, :, rows.shape[2] - count :]
