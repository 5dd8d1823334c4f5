"""Writes the stages of a bundle for a CPU."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from tqdm import tqdm

from mobilevlm.engines import stages
from mobilevlm.engines.targets import INT8_AMX, QUANTIZED, has_int8_cache

from ...calibration.conversations import embedded
from ...calibration.decoder_activations import Observed
from ...calibration.vision_activations import shows_pictures, vision_magnitudes
from ...plan import BuildPlan
from ...precisions import precision
from ...split.decoder import write_decoder
from ...split.graph import Graph, no_magnitudes, no_moments
from ...split.kv_cache import CacheForm
from ...split.vision import write_vision
from ...verification.written_form import WrittenWeights
from ...verification.written_weights import Written, WrittenGraph
from ...weights.equalize import Balanced

OPENVINO = "ort_openvino"  # the lowering of what it runs


def write_stages(plan: BuildPlan, directory: Path, progress: tqdm) -> Written:
    """Write vision, decoder and, where it has one, a prefill into a directory."""
    config, tensors = plan.checkpoint.config, plan.checkpoint.tensors
    even, cache, moments = Balanced(tensors, config), CacheForm(plan.max_context), no_moments
    magnitudes = dict.fromkeys(plan.precisions, no_magnitudes)
    if plan.precisions.get(stages.VISION) == INT8_AMX and plan.calibration and shows_pictures(plan.calibration):
        magnitudes[stages.VISION] = vision_magnitudes(plan.checkpoint, even, plan.calibration).get
    if plan.calibration:
        observed = Observed(config, even, embedded(plan.checkpoint, plan.calibration))
        if has_int8_cache(plan.precisions):
            cache = CacheForm(plan.max_context, lambda layer, part: observed.cache_steps(layer, part).numpy())
        moments = observed.moments if plan.choose_weights else no_moments

    def write(graph: Graph, stage: str, layers: range) -> None:
        name = plan.target.prefill_lowering if stage == stages.PREFILL else plan.target.lowering
        name = OPENVINO if plan.precisions[stage] == INT8_AMX else name
        lowering = import_module(f"mobilevlm.export.lowerings.{name}")
        if stage == stages.VISION:
            write_vision(graph, config, lowering)
        else:
            write_decoder(graph, config, lowering, cache, layers)

    sources, graphs = {}, {}
    # The decoder before its prefill: what its layers read is known while they are run, and only once.
    for stage, name in sorted(plan.precisions.items(), key=lambda item: item[0] == stages.PREFILL):
        progress.set_description(f"writing {stage} {name}")
        sources[stage] = even if name in QUANTIZED else tensors
        if stage == stages.PREFILL and name != INT8_AMX:
            decoder = WrittenGraph(directory / stages.onnx_file(stages.DECODER))
            sources[stage] = WrittenWeights({stages.DECODER: decoder}, even)
        of_stage = moments if stage == stages.DECODER else no_moments
        parts = stages.parts(stage, config.num_hidden_layers, name)
        graphs[stage] = list(parts)
        for part, layers in parts.items():
            seen = {"moments": of_stage, "magnitudes": magnitudes[stage]}
            external = directory / stages.weights_file(part)
            with Graph(stage, sources[stage], precision(name), external, progress.update, **seen) as graph:
                write(graph, stage, layers)
                graph.save(directory / stages.onnx_file(part))
    computed = isinstance(sources.get(stages.PREFILL), WrittenWeights)
    return Written(sources, graphs, written_from={stages.PREFILL: stages.DECODER} if computed else {})
