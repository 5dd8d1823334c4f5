"""Writes the stages of a bundle for TensorRT: strongly typed graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from tqdm import tqdm

from mobilevlm.engines import stages
from mobilevlm.engines.tensorrt.rules.check import check
from mobilevlm.errors import UserError

from ...calibration.conversations import embedded
from ...calibration.decoder_activations import Observed
from ...calibration.vision_activations import vision_magnitudes
from ...lowerings import tensorrt_delta
from ...precisions import precision
from ...precisions.a16w4 import HEADS
from ...split.decoder import write_decoder, write_likeliest
from ...split.graph import Graph, Moments, no_magnitudes, no_moments
from ...split.int8_error import Magnitudes
from ...split.kv_cache import CacheForm
from ...split.vision import write_vision
from ...verification.written_weights import FLOAT16_NOISE, Written
from ...weights.equalize import Balanced
from ...weights.smoothquant import Smoothed
from ..stage_plan import StagePlan
from .float32_twin import in_float32

OPSET = 20  # of graphs whose precision needs no other
VERSIONS = ("10.3", "10.16", "11.4")  # of TensorRT that graphs are written for: the oldest, and where something changed


@dataclass(frozen=True)
class Source:
    """Weights and activations that a stage's graphs are written from.

    Attributes:
        tensors: the checkpoint's, equalised where the stage is quantised.
        moments: of what a linear layer reads, for weights that are chosen.
        magnitudes: of what a linear layer reads, for int8 activations.
    """

    tensors: Mapping[str, torch.Tensor]
    moments: Moments = no_moments
    magnitudes: Callable[[str], Magnitudes | None] = no_magnitudes


def write_stages(plan: StagePlan, directory: Path, progress: tqdm) -> Written:
    """Writes vision and decoder into a directory.

    Args:
        plan: the stages.
        directory: receives the files.
        progress: counts bytes of weights.

    Raises:
        UserError: a graph that TensorRT would refuse, which is a mistake of ours: names node, rule and remedy.
    """
    config = plan.checkpoint.config
    even = Balanced(plan.checkpoint.tensors, config)
    sources = {stages.DECODER: _decoder_source(plan, even)}
    graphs = {stages.DECODER: list(plan.parts)}
    if stages.VISION in plan.precisions:
        sources[stages.VISION], graphs[stages.VISION] = _vision_source(plan, even), [stages.VISION]

    def opened(stage: str, part: str) -> Graph:
        source, facts = sources[stage], plan.facts[stage]
        return Graph(
            part,
            source.tensors,
            precision(plan.modules[stage]),
            directory / stages.weights_file(part),
            progress.update,
            source.moments,
            facts.opset or OPSET,
            facts.value_dtype,
            source.magnitudes,
        )

    if stages.VISION in plan.precisions:
        progress.set_description(f"writing vision {plan.precisions[stages.VISION]}")
        with opened(stages.VISION, stages.VISION) as graph:
            write_vision(graph, config, tensorrt_delta)
            save(graph, directory, stages.VISION)
    cache = CacheForm(plan.max_context)
    progress.set_description(f"writing decoder {plan.precisions[stages.DECODER]}")
    for part, layers in plan.parts.items():
        with opened(stages.DECODER, part) as graph:
            write_decoder(graph, config, tensorrt_delta, cache, layers)
            if layers.stop == config.num_hidden_layers:
                write_likeliest(graph, config)
            save(graph, directory, part)
    order = list(plan.precisions)
    return Written({one: sources[one].tensors for one in order}, {one: graphs[one] for one in order}, FLOAT16_NOISE)


def _vision_source(plan: StagePlan, even: Balanced) -> Source:
    facts = plan.facts[stages.VISION]
    tensors = even if facts.form.quantized else plan.checkpoint.tensors
    if not facts.fixes_ranges:
        return Source(tensors)
    found = vision_magnitudes(plan.checkpoint, even, plan.required_calibration())
    return Source(tensors, magnitudes=found.get)


def _decoder_source(plan: StagePlan, even: Balanced) -> Source:
    facts, config = plan.facts[stages.DECODER], plan.checkpoint.config
    if facts.fixes_ranges:
        smoothed, inputs = Smoothed(even), embedded(plan.checkpoint, plan.required_calibration())
        observed = Observed(config, even, inputs, with_moments=False, smoothed=smoothed)
        # Nothing after the head makes up for its rounding.
        return Source(smoothed, magnitudes=lambda layer: None if layer in HEADS else observed.magnitudes(layer))
    if facts.chooses_weights and plan.choose_weights:
        inputs = embedded(plan.checkpoint, plan.required_calibration())
        return Source(even, moments=Observed(config, even, inputs).moments)
    return Source(even if facts.form.quantized else plan.checkpoint.tensors)


def save(graph: Graph, directory: Path, name: str) -> None:
    """Writes a graph's file and its form for a CPU, and checks that TensorRT will take it.

    Args:
        graph: what was written.
        directory: for the file.
        name: of the graph.

    Raises:
        UserError: a version of TensorRT would refuse it.
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
