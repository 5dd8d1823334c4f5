"""A separate prefill: the decoder's layers for long prompts, some of them in memory at a time."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future

import numpy as np
import onnxruntime as ort

from mobilevlm.engines import stages
from mobilevlm.pages import Pages

from ..kv_cache import write_rows
from .sessions import OpenedGraph

# Tokens. With fewer little is gained (1.7B, two cores), as all weights of the prefill are read anyhow.
FEWEST_ROWS = 64


class Prefill:
    """The graphs of a bundle's prefill.

    Args:
        graphs: by name, see `stages.parts`; perhaps still being opened.
        layers: layers of the decoder in each graph.
        decoder: pages of the decoder's weights, which are released to make room.
        cache: the decoder's kv cache, by layer and part.
        most_rows: most tokens that a graph is given at a time; None for any number.
    """

    def __init__(
        self,
        graphs: Mapping[str, Future[tuple[OpenedGraph, Pages]]],
        layers: Mapping[str, range],
        decoder: Pages,
        cache: Mapping[tuple[int, str], np.ndarray],
        most_rows: int | None,
    ):
        self._graphs, self._layers, self._decoder, self._cache = graphs, layers, decoder, cache
        self._most_rows, self._last = most_rows, list(layers)[-1]
        # Behind a longer past buffers are larger than those of the last time, which would stay beside them.
        self._shrink = ort.RunOptions()
        self._shrink.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def run(self, inputs_embeds: np.ndarray, past: int) -> np.ndarray:
        """Runs tokens that follow the first `past` of the kv cache.

        Args:
            inputs_embeds: (S, D) float32.
            past: tokens of the kv cache that stay.

        Returns:
            (V,) float32 logits of the last token.
        """
        count = -(-len(inputs_embeds) // (self._most_rows or len(inputs_embeds)))
        pieces, room = np.array_split(inputs_embeds, count), 0
        for graph, opened in self._graphs.items():
            session, pages = opened.result()
            if pages.size > room:
                self._decoder.release(pages.size)
                room = pages.size
            before, handed_on = past, []
            for piece in pieces:  # all of them through some layers: weights are read once
                out = self._run(graph, session, np.ascontiguousarray(piece)[None], before)[0]
                handed_on.append(out if count == 1 else out.copy())  # or the piece after the next takes its place
                before += len(piece)
            pieces = handed_on
            pages.release()
        return pieces[-1]

    def _run(self, graph: str, session: OpenedGraph, rows: np.ndarray, past: int) -> np.ndarray:
        caches = [(layer, part) for layer in self._layers[graph] for part in stages.CACHE_PARTS]
        last, first = graph == self._last, 0 in self._layers[graph]
        feed = {stages.past(*key): self._cache[key][:, :, :past] for key in caches}
        feed |= {stages.INPUTS_EMBEDS if first else stages.HIDDEN_STATES: rows, stages.PAST_LENGTH: np.array([past])}
        wanted = [stages.LOGITS if last else stages.NEXT_HIDDEN_STATES, *(stages.new_rows(*key) for key in caches)]
        options = [self._shrink] if past and last and isinstance(session, ort.InferenceSession) else []
        rows, *new = session.run(wanted, feed, *options)
        for key, values in zip(caches, new, strict=True):
            write_rows(self._cache[key], past, values)
        return rows
