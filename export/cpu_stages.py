"""Writes the stages of a bundle for a CPU."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from tqdm import tqdm

from mobilevlm.engines import stages
from mobilevlm.engines.targets import QUANTIZED, has_int8_cache

from .balance import Balanced
from .cache import CacheForm
from .calibration import embedded
from .decoder import write_decoder
from .graph import Graph, no_moments
from .observed import Observed
from .plan import BuildPlan
from .precisions import precision
from .prepack import prepack
from .sensitivity import Sensitivity
from .vision import write_vision


def write_stages(plan: BuildPlan, directory: Path, progress: tqdm) -> list[Sensitivity]:
    """Write vision, decoder and, where it has one, a prefill into a directory; there is nothing to say of blocks."""
    config, tensors = plan.checkpoint.config, plan.checkpoint.tensors
    even, cache, moments = Balanced(tensors, config), CacheForm(plan.max_context), no_moments
    if plan.calibration:
        observed = Observed(config, even, embedded(plan.checkpoint, plan.calibration))
        if has_int8_cache(plan.precisions):
            cache = CacheForm(plan.max_context, lambda layer, part: observed.cache_steps(layer, part).numpy())
        moments = observed.moments if plan.choose_weights else no_moments

    def write(graph: Graph, stage: str, layers: range) -> None:
        name = plan.target.prefill_lowering if stage == stages.PREFILL else plan.target.lowering
        lowering = import_module(f".lowerings.{name}", __package__)
        if stage == stages.VISION:
            write_vision(graph, config, lowering)
        else:
            write_decoder(graph, config, lowering, cache, layers)

    # The decoder before its prefill: what its layers read is known while they are run, and only once.
    for stage, name in sorted(plan.precisions.items(), key=lambda item: item[0] == stages.PREFILL):
        progress.set_description(f"writing {stage} {name}")
        weights = even if name in QUANTIZED else tensors
        of_stage = moments if stage == stages.DECODER else no_moments
        for part, layers in stages.parts(stage, config.num_hidden_layers).items():
            final = directory / stages.onnx_file(part), directory / stages.weights_file(part)
            packs = plan.target.prepacks and name in QUANTIZED
            plain = (directory / "plain.onnx", directory / "plain.weights") if packs else final
            with Graph(stage, weights, precision(name), plain[1], progress.update, of_stage) as graph:
                write(graph, stage, layers)
                graph.save(plain[0])
            if packs:
                prepack(plain[0], *final)
                for path in plain:
                    path.unlink()
    return []
