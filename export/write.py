"""Carries a plan out: stages, embedding table, verification, manifest, in a directory that appears when all is done."""

from __future__ import annotations

import platform
import shutil
import time
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import transformers
from safetensors.numpy import save
from tqdm import tqdm

from mobilevlm import __version__
from mobilevlm.checkpoint import TOKENIZER_FILES
from mobilevlm.engines import stages
from mobilevlm.engines.bundle import write_manifest
from mobilevlm.engines.machine import peak_rss_bytes
from mobilevlm.engines.staging import staged
from mobilevlm.engines.targets import QUANTIZED, has_int8_cache
from mobilevlm.errors import UserError
from mobilevlm.projectors import num_image_tokens

from .balance import Balanced
from .cache import CacheForm
from .calibration import embedded
from .decoder import write_decoder
from .graph import Graph, no_moments, to_numpy
from .observed import Observed
from .plan import BuildPlan
from .precisions import precision
from .prepack import prepack
from .report import render_report
from .verify import Difference, verify
from .vision import write_vision

TABLE_ROWS = 4096  # converted at a time


def write_bundle(plan: BuildPlan) -> list[Difference]:
    """Write, verify and finish a bundle.

    Returns:
        How its tensors compare with PyTorch, as in its `report.md`.

    Raises:
        VerificationError: a stage differs from PyTorch by more than its precision allows; nothing is left behind.
    """
    start = time.perf_counter()
    with staged(plan.out, plan.overwrite) as directory:
        _write_stages(plan, directory)
        _write_tokenizer(plan, directory)
        result = verify(plan.checkpoint, directory, plan.precisions, plan.max_context)
        golden = {name: np.ascontiguousarray(value) for name, value in result.golden.items()}
        (directory / stages.GOLDEN_FILE).write_bytes(save(golden))
        seconds, peak = time.perf_counter() - start, peak_rss_bytes()
        report = render_report(plan, directory, result.differences, seconds, peak)
        (directory / stages.REPORT_FILE).write_text(report, encoding="utf-8")
        verification: dict[str, dict] = {}
        for item in result.differences:
            verification.setdefault(item.stage, {})[item.tensor] = asdict(item)
        write_manifest(
            directory,
            name=plan.checkpoint.name,
            model=plan.checkpoint.config.to_dict(),
            target=plan.target.name,
            lowering=plan.target.lowering,
            precision=plan.precisions,
            max_context=plan.max_context,
            num_image_tokens=num_image_tokens(plan.checkpoint.config) if stages.VISION in plan.precisions else 0,
            command=plan.command,
            versions=versions(),
            verification=verification,
        )
    return result.differences


def versions() -> dict[str, str]:
    """Of everything whose version can change a bundle."""
    modules = {"torch": torch, "transformers": transformers, "onnx": onnx, "onnxruntime": onnxruntime, "numpy": np}
    return {
        "mobilevlm": __version__,
        "python": platform.python_version(),
        **{name: module.__version__ for name, module in modules.items()},
    }


def _write_stages(plan: BuildPlan, directory: Path) -> None:
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

    with tqdm(total=sum(plan.weight_bytes.values()), unit="B", unit_scale=True, disable=None) as progress:
        # The decoder before its prefill: what its layers read is known while they are run, and only once.
        for stage, name in sorted(plan.precisions.items(), key=lambda item: item[0] == stages.PREFILL):
            progress.set_description(f"writing {stage} {name}")
            weights = even if name in QUANTIZED else tensors
            of_stage = moments if stage == stages.DECODER else no_moments
            for part, layers in stages.parts(stage, config.num_hidden_layers).items():
                final = directory / stages.onnx_file(part), directory / stages.weights_file(part)
                packs = name in QUANTIZED
                plain = (directory / "plain.onnx", directory / "plain.weights") if packs else final
                with Graph(stage, weights, precision(name), plain[1], progress.update, of_stage) as graph:
                    write(graph, stage, layers)
                    graph.save(plain[0])
                if packs:
                    prepack(plain[0], *final)
                    for path in plain:
                        path.unlink()
        progress.set_description("writing embed_tokens")
        dtype = precision(plan.precisions[stages.DECODER]).TABLE_DTYPE
        table = tensors["model.embed_tokens.weight"]
        _write_table(table, directory / stages.EMBED_TOKENS_FILE, dtype, progress.update)


def _write_table(weight: torch.Tensor, path: Path, dtype: type[np.generic], on_bytes) -> None:
    # Written, not mapped: a full disk is then an error instead of a killed process.
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header | {"shape": tuple(weight.shape)})
        for row in range(0, len(weight), TABLE_ROWS):
            exact = to_numpy(weight[row : row + TABLE_ROWS])
            if not np.abs(exact).max() <= np.finfo(dtype).max:  # also when it is no number
                raise UserError(
                    f"model.embed_tokens.weight holds {np.abs(exact).max():g} in rows {row} to {row + len(exact) - 1}, "
                    f"{np.dtype(dtype).name} ends at {np.finfo(dtype).max:g}: the checkpoint is damaged, or needs "
                    "--precision decoder=fp32"
                )
            rows = exact.astype(dtype)
            file.write(np.ascontiguousarray(rows).data)
            on_bytes(rows.nbytes)


def _write_tokenizer(plan: BuildPlan, directory: Path) -> None:
    for name in TOKENIZER_FILES:
        source = plan.checkpoint.tokenizer_dir / name
        if source.is_file():
            shutil.copyfile(source, directory / name)
