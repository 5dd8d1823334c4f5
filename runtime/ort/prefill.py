"""A prefill of its own: the decoder's layers for many rows, some of them in memory at a time."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future

import numpy as np
import onnxruntime as ort

from mobilevlm.engines import stages
from mobilevlm.pages import Pages

from ..kv_cache import write_rows
from .sessions import Session

# Below it little is gained (1.7B, two cores): whatever the rows, all weights of the prefill are read.
FEWEST_ROWS = 64


class Prefill:
    """The graphs of a bundle's prefill.

    Args:
        graphs: by name, see `stages.parts`; perhaps still being opened.
        layers: of the decoder in each.
        decoder: its weights, which make room.
        cache: the decoder's buffers, by layer and part.
        most_rows: that graphs are given at a time; None for any number.
    """

    def __init__(
        self,
        graphs: Mapping[str, Future[tuple[Session, Pages]]],
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
        """Run (S, D) float32 rows behind the first `past` of the cache: (V,) float32 logits of the last."""
        pieces = -(-len(inputs_embeds) // (self._most_rows or len(inputs_embeds)))
        rows, room = np.array_split(inputs_embeds, pieces), 0
        for graph, opened in self._graphs.items():
            session, pages = opened.result()
            if pages.size > room:
                self._decoder.release(pages.size)
                room = pages.size
            before, handed_on = past, []
            for piece in rows:  # all of them through some layers: weights are read once
                out = self._run(graph, session, np.ascontiguousarray(piece)[None], before)[0]
                handed_on.append(out if pieces == 1 else out.copy())  # or the piece after the next takes its place
                before += len(piece)
            rows = handed_on
            pages.release()
        return rows[-1]

    def _run(self, graph: str, session: Session, rows: np.ndarray, past: int) -> np.ndarray:
        caches = [(layer, part) for layer in self._layers[graph] for part in stages.CACHE_PARTS]
        last, first = graph == self._last, 0 in self._layers[graph]
        feed = {stages.past(*key): self._cache[key][:, :, :past] for key in caches}
        feed |= {stages.INPUTS_EMBEDS if first else stages.HIDDEN_STATES: rows, stages.PAST_LENGTH: np.array([past])}
        wanted = [stages.LOGITS if last else stages.NEXT_HIDDEN_STATES, *(stages.new_rows(*key) for key in caches)]
        options = [self._shrink] if past and last and isinstance(session, ort.InferenceSession) else []
        rows, *new = session.run(wanted, feed, *options)
        for key, codes in zip(caches, new, strict=True):
            write_rows(self._cache[key], past, codes)
        return rows
