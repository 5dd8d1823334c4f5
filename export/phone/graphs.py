"""Graphs as ONNX Runtime's benchmark program can run them, which makes up its inputs: zeros, of known sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from mobilevlm.engines import stages

CONTEXT_FILE = "ep_cache_context"


def fixed_decoder(source: Path, rows: int, past: int) -> onnx.ModelProto:
    """A decoder of the `gqa` lowering for `rows` rows behind `past` of the cache: zeros would be no valid positions.

    The cache has as many rows as are needed, because the program does not bind past and present to one buffer: what it
    copies stays small beside the weights. These stay in the source's external file.
    """
    model = onnx.load(source, load_external_data=False)
    graph = model.graph
    positions = {
        stages.SEQLENS_K: np.array([past + rows - 1], np.int32),
        stages.TOTAL_SEQUENCE_LENGTH: np.array(past + rows, np.int32),
    }
    inputs = [one for one in graph.input if one.name not in positions]
    del graph.input[:]
    graph.input.extend(inputs)
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in positions.items())
    for one in (*graph.input, *graph.output):
        sizes = one.type.tensor_type.shape.dim
        if one.name == stages.INPUTS_EMBEDS:
            sizes[1].dim_value = rows
        elif one.name != stages.LOGITS:  # the cache
            sizes[2].dim_value = past + rows
    return model


def context_file(path: Path) -> str:
    """Name of the binary beside a graph that is nothing but a context binary's inputs and outputs."""
    node = next(node for node in onnx.load(path).graph.node if node.op_type == "EPContext")
    return next(one.s.decode() for one in node.attribute if one.name == CONTEXT_FILE)
