"""A prefill of its own: the decoder's layers for many rows, some of them in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnxruntime as ort

from mobilevlm.engines import stages

from .pages import Pages

# Below it little is gained (1.7B, two cores): whatever the rows, all weights of the prefill are read.
FEWEST_ROWS = 64


class Prefill:
    """The graphs of a bundle's prefill.

    Args:
        graphs: by name, see `stages.parts`.
        layers: of the decoder in each.
        pages: of each graph's weights, and of the decoder's, which make room for them.
    """

    def __init__(
        self,
        graphs: Mapping[str, ort.InferenceSession],
        layers: Mapping[str, range],
        pages: Mapping[str, Pages],
    ):
        self._graphs, self._layers, self._pages = graphs, layers, pages

    def run(self, inputs_embeds: np.ndarray, bind_cache: Callable[[ort.IOBinding, range], None]) -> np.ndarray:
        """Run (S, D) float32 rows: (V,) float32 logits of the last; `bind_cache` binds positions and layers' cache."""
        name, rows = stages.INPUTS_EMBEDS, ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(inputs_embeds)[None])
        for part, session in self._graphs.items():
            binding = session.io_binding()
            binding.bind_ortvalue_input(name, rows)
            outputs = {output.name for output in session.get_outputs()}
            binding.bind_output(stages.LOGITS if stages.LOGITS in outputs else stages.NEXT_HIDDEN_STATES)
            bind_cache(binding, self._layers[part])
            self._pages[stages.DECODER].release(self._pages[part].size)
            session.run_with_iobinding(binding)
            name, rows = stages.HIDDEN_STATES, binding.get_outputs()[0]
            self._pages[part].release()
        return rows.numpy()[0]
