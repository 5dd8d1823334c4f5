"""Writes the stages of a bundle for TensorRT: strongly typed graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from tqdm import tqdm

from mobilevlm.engines import stages
from mobilevlm.engines.targets import QUANTIZED
from mobilevlm.engines.tensorrt.rules.check import check
from mobilevlm.errors import UserError

from ...calibration.conversations import embedded
from ...calibration.decoder_activations import Observed
from ...calibration.vision_activations import vision_magnitudes
from ...lowerings import tensorrt_delta as strided
from ...plan import BuildPlan
from ...precisions import precision
from ...precisions.a16w4 import HEADS
from ...split.decoder import write_decoder, write_likeliest
from ...split.graph import Graph, no_magnitudes, no_moments
from ...split.kv_cache import CacheForm
from ...split.vision import write_vision
from ...verification.written_weights import FLOAT16_NOISE, Written
from ...weights.equalize import Balanced
from ...weights.smoothquant import Smoothed
from .float32_twin import in_float32

OPSET, INT4_OPSET = 20, 21
VERSIONS = ("10.3", "10.16", "11.4")  # of TensorRT that graphs are written for: the oldest, and where something changed


def write_stages(plan: BuildPlan, directory: Path, progress: tqdm) -> Written:
    """Write vision and decoder into a directory.

    Raises:
        UserError: a graph that TensorRT would refuse, which is a mistake of ours: names node, rule and remedy.
    """
    config, tensors = plan.checkpoint.config, plan.checkpoint.tensors
    even = Balanced(tensors, config)
    moments, magnitudes = no_moments, dict.fromkeys(plan.precisions, no_magnitudes)
    weights = {stage: even if name in QUANTIZED else tensors for stage, name in plan.precisions.items()}
    if plan.precisions.get(stages.VISION) == "int8":
        magnitudes[stages.VISION] = vision_magnitudes(plan.checkpoint, even, plan.calibration).get
    if plan.precisions[stages.DECODER] == "int8":
        weights[stages.DECODER] = smoothed = Smoothed(even)
        observed = Observed(config, even, embedded(plan.checkpoint, plan.calibration), False, smoothed)
        magnitudes[stages.DECODER] = lambda layer: None if layer in HEADS else observed.magnitudes(layer)
    elif plan.precisions[stages.DECODER] == "int4" and plan.choose_weights:
        moments = Observed(config, even, embedded(plan.checkpoint, plan.calibration)).moments

    def opened(stage: str, part: str, **options) -> Graph:
        name = plan.precisions[stage]
        return Graph(
            part,
            weights[stage],
            precision(plan.target.module(name)),
            directory / stages.weights_file(part),
            progress.update,
            dtype=np.float32 if name == "fp32" else np.float16,
            magnitudes=magnitudes[stage],
            **options,
        )

    if stages.VISION in plan.precisions:
        progress.set_description(f"writing vision {plan.precisions[stages.VISION]}")
        with opened(stages.VISION, stages.VISION, opset=OPSET) as graph:
            write_vision(graph, config, strided)
            save(graph, directory, stages.VISION)
    name, cache = plan.precisions[stages.DECODER], CacheForm(plan.max_context)
    progress.set_description(f"writing decoder {name}")
    opset = INT4_OPSET if name == "int4" else OPSET
    for part, layers in plan.parts.items():
        with opened(stages.DECODER, part, moments=moments, opset=opset) as graph:
            write_decoder(graph, config, strided, cache, layers)
            if layers.stop == config.num_hidden_layers:
                write_likeliest(graph, config)
            save(graph, directory, part)
    graphs = {stage: [stage] for stage in plan.precisions if stage != stages.DECODER}
    graphs[stages.DECODER] = list(plan.parts)
    return Written(weights, graphs, FLOAT16_NOISE)


def save(graph: Graph, directory: Path, name: str) -> None:
    """Write a graph's file and its form for a CPU, and check that TensorRT will take it.

    Args:
        graph: what was written.
        directory: for the file.
        name: of the graph.
    """
    path = directory / stages.onnx_file(name)
    graph.save(path)
    written = onnx.load(str(path), load_external_data=False)
    (directory / stages.float32_file(name)).write_bytes(in_float32(written).SerializeToString())
    model = onnx.shape_inference.infer_shapes(written, data_prop=True)
    for version in VERSIONS:
        if found := check(model, version):
            lines = "\n".join(map(str, found))
            raise UserError(f"TensorRT {version} would not take {path.name}; please report this:\n{lines}")
