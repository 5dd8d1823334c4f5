"""Prompts and tokens in chunks of fixed sizes, for decoders of the `qnn` lowering: contract of export and runtime.

A graph takes `chunk` rows at a time; fewer stand at its end, behind padding that nothing attends to, so that the last
token is always in the last row. It reads a cache of `cache_rows` rows and returns the chunk's keys and values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mobilevlm.checkpoint.config import ModelConfig

from . import stages
from .attention_mask import causal_mask, token_positions
from .rope import full_tables
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

# Added to masked scores. Softmax leaves nothing of e**-120, and the scale of 16-bit scores, whose range this sets, is
# still some thousandths.
HIDDEN = -120.0
PROMPT_ROWS = 128


def cache_shape(config: ModelConfig, part: str, rows: Any) -> tuple[Any, ...]:
    """Returns the shape of a layer's cached keys or values.

    Args:
        config: the model.
        part: `key` or `value`.
        rows: of the cache, a number or the name of a dynamic size.

    Returns:
        (1, kv heads, head_dim, rows) for keys, (1, kv heads, rows, head_dim) for values.
    """
    last = (config.head_dim, rows) if part == "key" else (rows, config.head_dim)
    return 1, config.num_key_value_heads, *last


def chunks(rows: int, chunk: int) -> Iterator[slice]:
    """Cuts a prompt into chunks; the first is the short one.

    Args:
        rows: tokens of the prompt.
        chunk: most tokens of a chunk.
    """
    stop = (rows - 1) % chunk + 1
    start = 0
    while start < rows:
        yield slice(start, stop)
        start, stop = stop, stop + chunk


def filled(rows: np.ndarray, chunk: int) -> np.ndarray:
    """Pads rows to a whole chunk, with zeros in front.

    Args:
        rows: (n, D) float32.
        chunk: rows of the result.

    Returns:
        (1, chunk, D) float32.
    """
    out = np.zeros((1, chunk, rows.shape[1]), np.float32)
    out[0, chunk - len(rows) :] = rows
    return out


def positions(config: ModelConfig, count: int, past: int, chunk: int, cache_rows: int) -> dict[str, np.ndarray]:
    """Computes a chunk's attention mask and RoPE tables, by the names of the graph's inputs.

    Args:
        config: the model.
        count: tokens in the chunk; they stand at its end.
        past: tokens in the cache.
        chunk: S, rows of a call.
        cache_rows: P, rows of the cache.

    Returns:
        Mask (1, 1, S, P + S), cosines and sines (1, 1, S, head_dim), all float32, see `rope.full_tables`.
    """
    mask = causal_mask(count, past, chunk, cache_rows, HIDDEN)
    cos, sin = full_tables(config, token_positions(count, past, chunk))
    return {ATTENTION_MASK: mask, ROPE_COS: cos[None, None], ROPE_SIN: sin[None, None]}


class ChunkedDecoder:
    """A decoder of the `qnn` lowering, over whatever runs its graphs.

    Args:
        config: the model.
        cache_rows: tokens that the cache holds.
        graphs: rows of a call to functions that run its graphs in the order of their layers, inputs to outputs by name.
        layers: of each of these graphs.
        dtype: of the cache: uint8 quantised values, or float32 before a graph is quantised.

    Attributes:
        buffers: the kv cache, by layer and part; shapes are those of `cache_shape`.
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
        # Rows behind the past are masked, but have to be numbers.
        self.buffers = {key: np.zeros(cache_shape(config, key[1], cache_rows), dtype) for key in parts}

    def decode(self, inputs_embeds: np.ndarray, past: int) -> np.ndarray:
        """Runs tokens behind those in the cache, and adds their keys and values to it.

        Args:
            inputs_embeds: (S, D) float32.
            past: tokens in the cache.

        Returns:
            (V,) float32 logits of the last token.
        """
        chunk = 1 if len(inputs_embeds) == 1 else max(self._graphs)
        for piece in chunks(len(inputs_embeds), chunk):
            logits = self._run(chunk, inputs_embeds[piece], past + piece.start)
        return logits

    def read_cache(self, start: int, stop: int) -> np.ndarray:
        """Copies tokens out of the cache.

        Args:
            start: index of the first one.
            stop: index behind the last one.

        Returns:
            (2 * layers, kv heads, stop - start, head_dim), keys and values in turns.
        """
        return np.stack([_tokens_first(buffer, part)[:, start:stop] for (_, part), buffer in self.buffers.items()])

    def write_cache(self, start: int, rows: np.ndarray) -> None:
        """Copies tokens into the cache.

        Args:
            start: index of the first one.
            rows: what `read_cache` returned.
        """
        for ((_, part), buffer), values in zip(self.buffers.items(), rows, strict=True):
            _tokens_first(buffer, part)[:, start : start + values.shape[1]] = values

    def _run(self, chunk: int, rows: np.ndarray, past: int) -> np.ndarray:
        count = len(rows)
        where = positions(self._config, count, past, chunk, self._cache_rows)
        name, values = INPUTS_EMBEDS, filled(rows, chunk)
        for run, layers in zip(self._graphs[chunk], self._layers, strict=True):
            caches = [(layer, part) for layer in layers for part in CACHE_PARTS]
            outputs = run(where | {name: values} | {stages.past(*key): self.buffers[key] for key in caches})
            for key in caches:
                _keep_rows(self.buffers[key], key[1], outputs[new_rows(*key)], past, count)
            if NEXT_HIDDEN_STATES in outputs:
                name, values = HIDDEN_STATES, outputs[NEXT_HIDDEN_STATES]
        return outputs[LOGITS][0]


def _tokens_first(buffer: np.ndarray, part: str) -> np.ndarray:
    """Returns a view of a cache buffer as (kv heads, rows, head_dim)."""
    return buffer[0].swapaxes(1, 2) if part == "key" else buffer[0]


def _keep_rows(buffer: np.ndarray, part: str, rows: np.ndarray, past: int, count: int) -> None:
    """Writes keys or values of a chunk's last `count` rows into the cache."""
    if part == "key":
        buffer[..., past : past + count] = rows[..., rows.shape[3] - count :]
    else:
        buffer[:, :, past : past + count] = rows[:, :, rows.shape[2] - count :]
