"""TensorRT's decoder over whatever runs its graphs, with the inputs and the kv cache of a device's runner."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mobilevlm.checkpoint.config import ModelConfig

from .. import stages
from ..chunks import Run, chunks
from .buckets import PROMPT_ROWS, SPARE_ROWS, call_inputs, past_buckets


class BucketedDecoder:
    """A decoder of the `tensorrt_delta` lowering, split into graphs.

    Args:
        config: the model.
        runs: functions that run its graphs in the order of their layers, inputs to outputs by name.
        parts: layers of each graph.
        cache_rows: tokens that the cache holds.

    Attributes:
        caches: of each graph, (2 * layers, cache_rows, kv heads * head_dim) float32, keys and values in turns.
    """

    def __init__(self, config: ModelConfig, runs: Sequence[Run], parts: Sequence[range], cache_rows: int):
        self._config, self._runs, self._parts, self._buckets = config, runs, parts, past_buckets(cache_rows)
        width = config.num_key_value_heads * config.head_dim
        self.caches = [np.zeros((2 * len(layers), cache_rows, width), np.float32) for layers in parts]

    def decode(self, rows: np.ndarray, past: int) -> np.ndarray:
        """Runs tokens behind those in the cache, and adds their keys and values to it.

        Args:
            rows: (S, D) embeddings.
            past: tokens in the cache.

        Returns:
            (1, V) logits of the last token, or the largest of them, as the graph has it.
        """
        size = 1 if len(rows) == 1 else PROMPT_ROWS
        for piece in chunks(len(rows), size):
            logits = self._call(rows[piece], past + piece.start, size)
        return logits

    def _call(self, rows: np.ndarray, past: int, size: int) -> np.ndarray:
        config, count = self._config, len(rows)
        bucket = next(length for length in self._buckets if length >= past)
        values = np.zeros((1, SPARE_ROWS + size, rows.shape[1]), np.float32)
        values[0, -count:] = rows
        name, others = stages.INPUTS_EMBEDS, call_inputs(config, count, past, size, bucket)
        shape = (1, bucket, config.num_key_value_heads, config.head_dim)
        for run, layers, cache in zip(self._runs, self._parts, self.caches, strict=True):
            keys = [stages.past(layer, part) for layer in layers for part in stages.CACHE_PARTS]
            past_rows = {key: one[:bucket].reshape(shape) for key, one in zip(keys, cache, strict=True)}
            outputs = run(others | past_rows | {name: values})
            cache[:, past : past + count] = outputs[stages.NEW_ROWS][:, size - count :]
            if stages.NEXT_HIDDEN_STATES in outputs:
                name, values = stages.HIDDEN_STATES, outputs[stages.NEXT_HIDDEN_STATES]
        return outputs[stages.LOGITS]

    def read_cache(self, start: int, stop: int) -> np.ndarray:
        """Copies tokens out of the cache.

        Args:
            start: index of the first one.
            stop: index behind the last one.

        Returns:
            (2 * layers, 1, stop - start, kv heads * head_dim), keys and values in turns.
        """
        return np.concatenate([cache[:, None, start:stop] for cache in self.caches])

    def write_cache(self, start: int, rows: np.ndarray) -> None:
        """Copies tokens into the cache.

        Args:
            start: index of the first one.
            rows: what `read_cache` returned.
        """
        first = 0
        for cache in self.caches:
            cache[:, start : start + rows.shape[2]] = rows[first : first + len(cache), 0]
            first += len(cache)

    def head_major(self, layer: int, part: str, rows: int) -> np.ndarray:
        """Returns a layer's cached keys or values in PyTorch's layout.

        Args:
            layer: of the decoder.
            part: `key` or `value`.
            rows: tokens, from the first.

        Returns:
            (1, kv heads, rows, head_dim) float32.
        """
        cache, layers = next(pair for pair in zip(self.caches, self._parts, strict=True) if layer in pair[1])
        one = cache[2 * (layer - layers.start) + stages.CACHE_PARTS.index(part), :rows]
        return one.reshape(1, rows, self._config.num_key_value_heads, -1).swapaxes(1, 2)
