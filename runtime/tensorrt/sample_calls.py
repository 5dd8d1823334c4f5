"""Calls of a TensorRT bundle's graphs on its sample, with every input and output: what a debugger compares with.

A bundle carries its sample as the runtime sees it: an image, a prompt, and PyTorch's results. The values of each graph
are made from that, here and without PyTorch, by the graphs' float32 form on ONNX Runtime, and handed out only where
that form agrees with PyTorch's results and the build's. Stored, they would be mostly kv cache: at 1.7B's sizes 67 MB of
JSON for a token and 102 MB for a prompt, beside 5 MB for the sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.onnx_wire import tensor_dtypes
from mobilevlm.engines.stages import ATTENTION_MASK, DECODER, TOP_TOKENS, VISION, onnx_file
from mobilevlm.engines.tensorrt.buckets import HIDDEN

from ..decoder import Decoder
from ..open_decoder import open_table
from ..self_check import require, run_sample
from .on_cpu import GraphRunner

Values = dict[str, np.ndarray]
# Where two logits are nearly alike their tokens change places by a rounding: the logits themselves are compared.
NOT_COMPARED = (TOP_TOKENS,)


@dataclass(frozen=True)
class SampleCall:
    """One call of one graph.

    Attributes:
        name: `vision`, or a piece of the decoder with `.prompt` or `.token`.
        graph: name of the graph.
        stage: that the graph belongs to.
        inputs: by name, in the graph's own shapes and dtypes.
        outputs: by name, in the graph's own dtypes; without `NOT_COMPARED`.
    """

    name: str
    graph: str
    stage: str
    inputs: Values
    outputs: Values


def sample_calls(bundle: Bundle) -> list[SampleCall]:
    """Runs the sample through the float32 form of a bundle's graphs and keeps a call of each size.

    Of the decoder's calls for a prompt, and of those for a token, the one that attends to most tokens is kept.

    Args:
        bundle: for TensorRT, with its graphs.

    Raises:
        BundleError: the graphs are not there, or compute something else than PyTorch and the build.
    """
    seen: dict[str, int] = {}
    kept: dict[str, SampleCall] = {}
    dtypes: dict[str, dict[str, type[np.generic]]] = {}

    def watch(graph: str, inputs: Values, outputs: Values) -> None:
        name, rows = graph, 1
        if graph != VISION:
            mask = inputs[ATTENTION_MASK]
            name = f"{graph}.{'token' if mask.shape[2] == 1 else 'prompt'}"
            rows = int((mask > HIDDEN / 2).sum())
        if rows <= seen.get(name, 0):
            return
        if graph not in dtypes:
            dtypes[graph] = tensor_dtypes(bundle.path(onnx_file(graph)))
        of, seen[name] = dtypes[graph], rows
        ins, outs = ({key: one.astype(of[key]) for key, one in values.items()} for values in (inputs, outputs))
        compared = {key: one for key, one in outs.items() if key not in NOT_COMPARED}
        kept[name] = SampleCall(name, graph, VISION if graph == VISION else DECODER, ins, compared)

    runner = GraphRunner(bundle, watch)
    require(bundle, run_sample(Decoder(bundle, open_table(bundle), runner)), runner.remedy())
    return list(kept.values())
