"""Carries a plan out: stages, embedding table, verification, manifest, in a directory that appears when all is done."""

from __future__ import annotations

import platform
import shutil
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import transformers
from safetensors.numpy import save
from tqdm import tqdm

from mobilevlm import __version__
from mobilevlm.checkpoint.checkpoint import TOKENIZER_FILES
from mobilevlm.engines import stages
from mobilevlm.engines.atomic_dir import staged
from mobilevlm.engines.bundle import Bundle, amend_manifest, write_manifest
from mobilevlm.engines.embed_tokens import as_int8, int8_row
from mobilevlm.engines.machine import fingerprint, peak_rss_bytes
from mobilevlm.engines.manifest import Manifest
from mobilevlm.engines.qnn import provider as qnn
from mobilevlm.engines.targets import TENSORRT
from mobilevlm.errors import UserError
from mobilevlm.model.projectors import num_image_tokens

from .backends.ort import write as cpu_stages
from .backends.ort.prefill_weights import store_once
from .backends.ort.xnnpack_coverage import coverage, render_coverage
from .backends.qnn import write as npu_stages
from .backends.qnn.compile import compile_stages
from .backends.qnn.report import render_npu
from .backends.tensorrt import write as tensorrt_stages
from .backends.tensorrt.report import render_judgement, render_peaks, render_weights
from .backends.tensorrt.run import TensorrtStages
from .plan import BuildPlan
from .precisions import precision
from .report import render_report
from .split.graph import to_numpy
from .verification.stages import CpuStages, NpuStages, Stages
from .verification.verify import Difference, rows_needed, verify
from .verification.written_weights import Written

TABLE_ROWS = 4096  # converted at a time
WRITERS = {"ort": cpu_stages, "qnn": npu_stages, TENSORRT: tensorrt_stages}


def write_bundle(plan: BuildPlan, judged: bool = False) -> list[Difference]:
    """Write, verify and finish a bundle.

    Args:
        plan: to be carried out.
        judged: whether NVIDIA's builder is asked about the graphs, for the report.

    Returns:
        How its tensors compare with PyTorch, as in its `report.md`.

    Raises:
        VerificationError: a stage differs from PyTorch by more than its precision allows; nothing is left behind.
        UserError: NVIDIA's builder refuses a graph; nothing is left behind.
    """
    start = time.perf_counter()
    with staged(plan.out, plan.overwrite) as directory:
        written = _write_stages(plan, directory)
        _write_tokenizer(plan, directory)
        table = np.load(directory / stages.EMBED_TOKENS_FILE, mmap_mode="r")
        modules = {stage: plan.target.module(name) for stage, name in plan.precisions.items()}
        runs = _runs(plan, directory)
        result = verify(plan.checkpoint, written, directory, runs, table, modules, plan.max_context)
        if stages.PREFILL in written.written_from:
            store_once(directory, written.graphs[stages.PREFILL], written.sources[stages.PREFILL])
        compiled, spare = compile_stages(plan, directory) if plan.soc else ([], [])
        golden = {name: np.ascontiguousarray(value) for name, value in result.golden.items()}
        (directory / stages.GOLDEN_FILE).write_bytes(save(golden))
        seconds, peak = time.perf_counter() - start, peak_rss_bytes()
        report = render_report(plan, directory, result.differences, seconds, peak)
        report += render_npu(plan, written.sensitivity, compiled) if plan.target.backend == "qnn" else ""
        if plan.target.backend == TENSORRT:
            report += render_weights(directory) + render_peaks(result.peaks)
        if plan.target.xnnpack:
            report += render_coverage({one: coverage(directory / stages.onnx_file(one)) for one in plan.precisions})
        (directory / stages.REPORT_FILE).write_text(report, encoding="utf-8")
        verification: dict[str, dict] = {}
        for item in result.differences:
            verification.setdefault(item.stage, {})[item.tensor] = asdict(item)
        manifest = write_manifest(
            directory,
            Manifest(
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
                parts={part: [layers.start, layers.stop] for part, layers in plan.parts.items()},
                compiled={"soc": plan.soc.name, "htp": str(plan.soc.htp)} | qnn.versions() if plan.soc else {},
                spare=spare,
                machine=fingerprint(),
                files={},
            ),
        )
        if judged:
            report += render_judgement(Bundle(directory, manifest, plan.checkpoint.config))
            (directory / stages.REPORT_FILE).write_text(report, encoding="utf-8")
            amend_manifest(directory, manifest, [stages.REPORT_FILE])
    return result.differences


def versions() -> dict[str, str]:
    """Of everything whose version can change a bundle."""
    modules = {"torch": torch, "transformers": transformers, "onnx": onnx, "onnxruntime": onnxruntime, "numpy": np}
    return {
        "mobilevlm": __version__,
        "python": platform.python_version(),
        **{name: module.__version__ for name, module in modules.items()},
    }


def _write_stages(plan: BuildPlan, directory: Path) -> Written:
    with tqdm(total=sum(plan.weight_bytes.values()), unit="B", unit_scale=True, disable=None) as progress:
        written = WRITERS[plan.target.backend].write_stages(plan, directory, progress)
        progress.set_description("writing embed_tokens")
        dtype = precision(plan.target.module(plan.precisions[stages.DECODER])).TABLE_DTYPE
        table = plan.checkpoint.tensors["model.embed_tokens.weight"]
        _write_table(table, directory / stages.EMBED_TOKENS_FILE, dtype, progress.update)
        return written


def _runs(plan: BuildPlan, directory: Path) -> Stages:
    config = plan.checkpoint.config
    if plan.target.backend == "ort":
        return CpuStages(directory, config, plan.precisions, plan.max_context)
    if plan.target.backend == TENSORRT:
        return TensorrtStages(directory, config, plan.precisions, plan.parts, rows_needed(plan.checkpoint))
    return NpuStages(directory, config, plan.parts, plan.max_context)


def _write_table(weight: torch.Tensor, path: Path, dtype: type[np.generic], on_bytes) -> None:
    # Written, not mapped: a full disk is then an error instead of a killed process.
    is_int8 = dtype == np.int8
    stored = int8_row(weight.shape[1]) if is_int8 else np.dtype(dtype)
    largest = np.finfo(np.float32 if is_int8 else dtype).max
    header = {"descr": np.lib.format.dtype_to_descr(stored), "fortran_order": False}
    with path.open("wb") as file:
        shape = (len(weight),) if is_int8 else tuple(weight.shape)
        np.lib.format.write_array_header_1_0(file, header | {"shape": shape})
        for row in range(0, len(weight), TABLE_ROWS):
            exact = to_numpy(weight[row : row + TABLE_ROWS])
            if not np.abs(exact).max() <= largest:  # also when it is no number
                raise UserError(
                    f"model.embed_tokens.weight holds {np.abs(exact).max():g} in rows {row} to {row + len(exact) - 1}, "
                    f"{np.dtype(dtype).name} ends at {largest:g}: the checkpoint is damaged, or needs "
                    "--precision decoder=fp32"
                )
            rows = as_int8(exact) if is_int8 else exact.astype(dtype)
            file.write(np.ascontiguousarray(rows).data)
            on_bytes(rows.nbytes)


def _write_tokenizer(plan: BuildPlan, directory: Path) -> None:
    for name in TOKENIZER_FILES:
        source = plan.checkpoint.tokenizer_dir / name
        if source.is_file():
            shutil.copyfile(source, directory / name)
