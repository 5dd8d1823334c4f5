"""Writes the stages of a bundle for an NPU: quantised graphs, calibrated, with shapes that are fixed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from mobilevlm.engines import stages
from mobilevlm.engines.chunks import PROMPT_ROWS, ChunkedDecoder, Run, filled, positions
from mobilevlm.image import ImageSpec, load_image, preprocess

from ...calibration.conversations import Conversations, embedded
from ...calibration.decoder_activations import Observed
from ...calibration.vision_activations import image_files
from ...lowerings import qnn as lowering
from ...split.decoder import write_decoder
from ...split.graph import no_moments
from ...split.kv_cache import CacheForm
from ...split.vision import write_vision
from ...verification.written_weights import WORD_NOISE, Written
from ...weights.equalize import Balanced
from ...weights.kv_cache_scales import CacheScaled
from ..stage_plan import StagePlan
from .quantize_stage import Stage, write_quantized
from .report import render_sensitivity
from .sensitivity import Feed, Sensitivity

RESULT_BITS = 16
SAMPLES = 2  # images, and conversations, that quantised weights are compared with exact ones on


def write_stages(
    plan: StagePlan, calibration: Conversations, may_be_exact: bool, directory: Path, progress: tqdm
) -> Written:
    """Writes vision and decoder into a directory.

    Args:
        plan: the stages.
        calibration: conversations that ranges are found on.
        may_be_exact: whether blocks can have 16-bit weights.
        directory: receives the files.
        progress: counts bytes of weights.
    """
    even = Balanced(plan.checkpoint.tensors, plan.checkpoint.config)
    makers = {stages.VISION: _vision} if stages.VISION in plan.precisions else {}
    sources: dict[str, Mapping[str, torch.Tensor]] = {}
    graphs: dict[str, list[str]] = {}
    found: list[Sensitivity] = []
    for name, make in (makers | {stages.DECODER: _decoder}).items():
        stage = make(plan, calibration, even)
        found += write_quantized(stage, directory, may_be_exact, progress)
        sources[name], graphs[name] = stage.tensors, [next(iter(files)) for files in stage.files.values()]
    report = render_sensitivity(found, plan.precisions)
    return Written(sources, graphs, WORD_NOISE, result_bits=RESULT_BITS, report=report)


def _vision(plan: StagePlan, calibration: Conversations, tensors: Balanced) -> Stage:
    spec, files = ImageSpec.of(plan.checkpoint.config), image_files(calibration)

    def feed(path: Path) -> dict[str, np.ndarray]:
        return {stages.PIXEL_VALUES: preprocess(load_image(path), spec)}

    def sample(path: Path) -> Feed:
        return lambda dtype: feed(path)

    def calibrate(runs: Sequence[Run]) -> None:
        for path in files:
            runs[0](feed(path))

    name = stages.VISION
    return Stage(
        name=name,
        precision=plan.precisions[name],
        tensors=tensors,
        moments=lambda: no_moments,
        pieces={name: partial(write_vision, config=plan.checkpoint.config, lowering=lowering)},
        calibrate=calibrate,
        samples=[sample(path) for path in files[:SAMPLES]],
        byte_scales={name: {}},
        files={name: {name: {}}},
    )


def _decoder(plan: StagePlan, calibration: Conversations, tensors: Balanced) -> Stage:
    config, parts, cache = plan.checkpoint.config, plan.parts, CacheForm(plan.max_context)
    conversations = [rows[0, : plan.max_context].numpy() for rows in embedded(plan.checkpoint, calibration)]
    observed = Observed(config, tensors, [torch.from_numpy(rows)[None] for rows in conversations])
    weights = CacheScaled(tensors, config, observed.cache_scales)
    caches = {part: [(n, kind) for n in layers for kind in stages.CACHE_PARTS] for part, layers in parts.items()}

    def calibrate(runs: Sequence[Run]) -> None:
        """In two halves, so that rows are seen with a past and without."""
        for rows in conversations:
            sizes = dict.fromkeys((-(-len(rows) // 2), 1), runs)
            ChunkedDecoder(config, plan.max_context, sizes, list(parts.values()), np.float32).decode(rows, 0)

    def feed(rows: np.ndarray, dtype: type[np.generic]) -> dict[str, np.ndarray]:
        count = len(rows)
        empty = ChunkedDecoder(config, plan.max_context, {1: []}, [], dtype).buffers
        where = positions(config, count, 0, count, plan.max_context)
        past = {stages.past(*key): buffer for key, buffer in empty.items()}
        return where | past | {stages.INPUTS_EMBEDS: filled(rows, count)}

    def moments() -> Callable[[str], torch.Tensor | None]:
        if not (plan.facts[stages.DECODER].chooses_weights and plan.choose_weights):
            return no_moments
        once_more = Observed(config, tensors, [torch.from_numpy(rows)[None] for rows in conversations])
        return lambda name: weights.moments(name, once_more.moments(name))

    return Stage(
        name=stages.DECODER,
        precision=plan.precisions[stages.DECODER],
        tensors=weights,
        moments=moments,
        pieces={
            part: partial(write_decoder, config=config, lowering=lowering, cache=cache, layers=layers)
            for part, layers in parts.items()
        },
        calibrate=calibrate,
        samples=[partial(feed, rows[-PROMPT_ROWS:]) for rows in conversations[:SAMPLES]],
        # Scaled already: see `kv_cache_scales.py`.
        byte_scales={
            part: {name(*key): 1.0 for key in keys for name in (stages.past, stages.new_rows)}
            for part, keys in caches.items()
        },
        files={
            part: {
                stages.chunk_graph(part, rows): {"sequence": rows, "columns": plan.max_context + rows}
                for rows in (PROMPT_ROWS, 1)
            }
            for part in parts
        },
    )
