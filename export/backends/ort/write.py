"""Writes the stages of a bundle for a CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

import torch
from tqdm import tqdm

from mobilevlm.engines import stages

from ...calibration.conversations import embedded
from ...calibration.decoder_activations import Observed
from ...calibration.vision_activations import shows_images, vision_magnitudes
from ...precisions import precision
from ...split.decoder import write_decoder
from ...split.graph import Graph, Moments, no_magnitudes, no_moments
from ...split.int8_error import Magnitudes
from ...split.kv_cache import CacheForm
from ...split.vision import write_vision
from ...stage_forms import has_int8_cache
from ...verification.written_form import WrittenWeights
from ...verification.written_weights import Written, WrittenGraph
from ...weights.equalize import Balanced
from ..stage_plan import StagePlan


def write_stages(plan: StagePlan, directory: Path, progress: tqdm) -> Written:
    """Writes vision, decoder and, where the plan has one, a prefill into a directory.

    Args:
        plan: the stages.
        directory: receives the files.
        progress: counts bytes of weights.
    """
    even = Balanced(plan.checkpoint.tensors, plan.checkpoint.config)
    cache, moments = calibrated(plan, even)
    magnitudes = _vision_magnitudes(plan, even)
    sources: dict[str, Mapping[str, torch.Tensor]] = {}
    graphs: dict[str, list[str]] = {}
    written_from: dict[str, str] = {}
    # The decoder before its prefill: what its layers read is known while they are run, and only once.
    for stage, name in sorted(plan.precisions.items(), key=lambda item: item[0] == stages.PREFILL):
        progress.set_description(f"writing {stage} {name}")
        facts = plan.facts[stage]
        prefill = facts.prefill if stage == stages.PREFILL else None
        sources[stage] = even if facts.form.quantized else plan.checkpoint.tensors
        if prefill and prefill.from_decoder:
            decoder = WrittenGraph(directory / stages.onnx_file(stages.DECODER))
            sources[stage], written_from[stage] = WrittenWeights({stages.DECODER: decoder}, even), stages.DECODER
        parts = stages.parts(stage, plan.checkpoint.config.num_hidden_layers, prefill.layers if prefill else 0)
        graphs[stage] = list(parts)
        for part, layers in parts.items():
            with Graph(
                stage,
                sources[stage],
                precision(name),
                directory / stages.weights_file(part),
                progress.update,
                moments=moments if stage == stages.DECODER else no_moments,
                magnitudes=magnitudes if stage == stages.VISION else no_magnitudes,
            ) as graph:
                _write(graph, plan, stage, cache, layers)
                graph.save(directory / stages.onnx_file(part))
    return Written(sources, graphs, written_from=written_from)


def calibrated(plan: StagePlan, even: Balanced) -> tuple[CacheForm, Moments]:
    """Returns the form of the kv cache, and the moments that the decoder's weights are chosen by.

    Args:
        plan: the stages.
        even: the checkpoint's tensors, equalised.
    """
    if plan.calibration is None:
        return CacheForm(plan.max_context), no_moments
    observed = Observed(plan.checkpoint.config, even, embedded(plan.checkpoint, plan.calibration))
    cache = CacheForm(plan.max_context)
    if has_int8_cache(plan.precisions):
        cache = CacheForm(plan.max_context, lambda layer, part: observed.cache_scales(layer, part).numpy())
    return cache, observed.moments if plan.choose_weights else no_moments


def _vision_magnitudes(plan: StagePlan, even: Balanced) -> Callable[[str], Magnitudes | None]:
    """Magnitudes of what the vision tower reads, where a precision and images of the calibration data ask for them."""
    asks = stages.VISION in plan.facts and plan.facts[stages.VISION].has_qdq
    if asks and plan.calibration and shows_images(plan.calibration):
        return vision_magnitudes(plan.checkpoint, even, plan.calibration).get
    return no_magnitudes


def _write(graph: Graph, plan: StagePlan, stage: str, cache: CacheForm, layers: range) -> None:
    name = plan.target.prefill_lowering if stage == stages.PREFILL else plan.target.lowering
    lowering = import_module(f"mobilevlm.export.lowerings.{plan.facts[stage].lowering or name}")
    if stage == stages.VISION:
        write_vision(graph, plan.checkpoint.config, lowering)
    else:
        write_decoder(graph, plan.checkpoint.config, lowering, cache, layers)
