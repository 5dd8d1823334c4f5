"""Graphs of a bundle for an Arm CPU, as ONNX Runtime's benchmark program runs them: its inputs are zeros."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from mobilevlm.engines import stages
from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.chunks import PROMPT_ROWS

from ..results import PHONE_IMAGE, PHONE_PROMPT, PHONE_TOKEN, PhoneMeasure


def copy_graphs(bundle: Bundle, directory: Path) -> list[PhoneMeasure]:
    """Copies graphs and weights, the decoder's once for a prompt and once for the token behind it.

    Args:
        bundle: the bundle.
        directory: receives the files.
    """
    measures = []
    if bundle.has_vision:
        provider = "xnnpack" if bundle.manifest.forms[stages.VISION].xnnpack else "cpu"
        measures.append(PhoneMeasure(PHONE_IMAGE, provider, stages.onnx_file(stages.VISION)))
        for name in (stages.onnx_file(stages.VISION), stages.weights_file(stages.VISION)):
            shutil.copyfile(bundle.path(name), directory / name)
    weights = stages.weights_file(stages.DECODER)
    shutil.copyfile(bundle.path(weights), directory / weights)
    for measure, rows, past in ((PHONE_PROMPT, PROMPT_ROWS, 0), (PHONE_TOKEN, 1, PROMPT_ROWS)):
        name = stages.onnx_file(f"{stages.DECODER}.{measure}")
        model = fixed_decoder(bundle.path(stages.onnx_file(stages.DECODER)), rows, past)
        (directory / name).write_bytes(model.SerializeToString())
        measures.append(PhoneMeasure(measure, "cpu", name))
    return measures


def fixed_decoder(source: Path, rows: int, past: int) -> onnx.ModelProto:
    """Fixes the sizes and positions of a decoder of the `ort` lowering, whose zeros would be no valid positions.

    The cache has as many rows as are needed, because the program does not bind past and present to one buffer: what it
    copies stays small beside the weights. These stay in the source's external file.

    Args:
        source: the decoder's ONNX file.
        rows: of a call.
        past: rows of the cache before them.
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
