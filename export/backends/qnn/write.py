"""Writes the stages of a bundle for an NPU: graphs of codes, calibrated, with shapes that are fixed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from mobilevlm.engines import stages
from mobilevlm.engines.chunks import PROMPT_ROWS, ChunkedDecoder, Run, filled, positions
from mobilevlm.image import ImageSpec, load_image, preprocess

from ...calibration.conversations import embedded
from ...calibration.decoder_activations import Observed
from ...calibration.vision_activations import pictures
from ...lowerings import qnn as delta
from ...plan import BuildPlan
from ...split.decoder import write_decoder
from ...split.graph import no_moments
from ...split.kv_cache import CacheForm
from ...split.vision import write_vision
from ...verification.written_weights import WORD_NOISE, Written
from ...weights.equalize import Balanced
from ...weights.kv_cache_scales import CacheCodes
from .quantize_stage import Stage, write_coded

RESULT_BITS = 16
SAMPLES = 2  # pictures, and conversations, that coded weights are compared with exact ones on


def write_stages(plan: BuildPlan, directory: Path, progress: tqdm) -> Written:
    """Write vision and decoder into a directory."""
    even = Balanced(plan.checkpoint.tensors, plan.checkpoint.config)
    may_be_exact = plan.soc is not None and plan.soc.multiplies_16_bits
    makers = {stages.VISION: _vision} if stages.VISION in plan.precisions else {}
    sources, graphs, found = {}, {}, []
    for name, make in (makers | {stages.DECODER: _decoder}).items():
        stage = make(plan, even)
        found += write_coded(stage, directory, may_be_exact, progress)
        sources[name], graphs[name] = stage.tensors, [next(iter(files)) for files in stage.files.values()]
    return Written(sources, graphs, WORD_NOISE, result_bits=RESULT_BITS, sensitivity=found)


def _vision(plan: BuildPlan, tensors: Balanced) -> Stage:
    spec, files = ImageSpec.of(plan.checkpoint.config), pictures(plan.calibration)

    def feed(path: Path) -> dict[str, np.ndarray]:
        return {stages.PIXEL_VALUES: preprocess(load_image(path), spec)}

    def calibrate(runs: Sequence[Run]) -> None:
        for path in files:
            runs[0](feed(path))

    name = stages.VISION
    return Stage(
        name=name,
        precision=plan.precisions[name],
        tensors=tensors,
        moments=lambda: no_moments,
        pieces={name: partial(write_vision, config=plan.checkpoint.config, lowering=delta)},
        calibrate=calibrate,
        samples=[lambda _, path=path: feed(path) for path in files[:SAMPLES]],
        byte_steps={name: {}},
        files={name: {name: {}}},
    )


def _decoder(plan: BuildPlan, tensors: Balanced) -> Stage:
    config, parts, cache = plan.checkpoint.config, plan.parts, CacheForm(plan.max_context)
    conversations = [rows[0, : plan.max_context].numpy() for rows in embedded(plan.checkpoint, plan.calibration)]
    observed = Observed(config, tensors, [torch.from_numpy(rows)[None] for rows in conversations])
    weights = CacheCodes(tensors, config, observed.cache_steps)
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
        if plan.precisions[stages.DECODER] != "a16w4" or not plan.choose_weights:
            return no_moments
        once_more = Observed(config, tensors, [torch.from_numpy(rows)[None] for rows in conversations])
        return lambda name: weights.moments(name, once_more.moments(name))

    return Stage(
        name=stages.DECODER,
        precision=plan.precisions[stages.DECODER],
        tensors=weights,
        moments=moments,
        pieces={
            part: partial(write_decoder, config=config, lowering=delta, cache=cache, layers=layers)
            for part, layers in parts.items()
        },
        calibrate=calibrate,
        samples=[partial(feed, rows[-PROMPT_ROWS:]) for rows in conversations[:SAMPLES]],
        # In steps already: see `kv_cache_scales.py`.
        byte_steps={
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
