"""A prefill of its own: the decoder's layers for many rows, some of them in memory at a time."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future

import numpy as np
import onnxruntime as ort

from mobilevlm.engines import stages
from mobilevlm.pages import Pages

from .kv_cache import write_rows
from .ort_graphs import Session

# Below it little is gained (1.7B, two cores): whatever the rows, all weights of the prefill are read.
FEWEST_ROWS = 64


class Prefill:
    """The graphs of a bundle's prefill.

    Args:
        graphs: by name, see `stages.parts`; perhaps still being opened.
        layers: of the decoder in each.
        decoder: its weights, which make room.
        cache: the decoder's buffers, by layer and part.
    """

    def __init__(
        self,
        graphs: Mapping[str, Future[tuple[Session, Pages]]],
        layers: Mapping[str, range],
        decoder: Pages,
        cache: Mapping[tuple[int, str], np.ndarray],
    ):
        self._graphs, self._layers, self._decoder, self._cache = graphs, layers, decoder, cache
        self._last = list(layers)[-1]
        # Behind a longer past buffers are larger than those of the last time, which would stay beside them.
        self._options = ort.RunOptions()
        self._options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def run(self, inputs_embeds: np.ndarray, past: int) -> np.ndarray:
        """Run (S, D) float32 rows behind the first `past` of the cache: (V,) float32 logits of the last."""
        name, rows = stages.INPUTS_EMBEDS, np.ascontiguousarray(inputs_embeds)[None]
        for graph, opened in self._graphs.items():
            session, pages = opened.result()
            caches = [(layer, part) for layer in self._layers[graph] for part in stages.CACHE_PARTS]
            feed = {stages.past(*key): self._cache[key][:, :, :past] for key in caches}
            feed |= {name: rows, stages.PAST_LENGTH: np.array([past])}
            last = stages.LOGITS if graph == self._last else None
            wanted = [last or stages.NEXT_HIDDEN_STATES, *(stages.new_rows(*key) for key in caches)]
            self._decoder.release(pages.size)
            rows, *new = session.run(wanted, feed, self._options if past and last else None)
            for key, codes in zip(caches, new, strict=True):
                write_rows(self._cache[key], past, codes)
            name = stages.HIDDEN_STATES
            pages.release()
        return rows[0]
