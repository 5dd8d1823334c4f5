"""Carries a plan out: stages, embedding table, verification, manifest, in a directory that appears when all is done."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import transformers
from safetensors.numpy import save
from tqdm import tqdm

from mobilevlm import __version__
from mobilevlm.engines import stages
from mobilevlm.engines.atomic_dir import staged
from mobilevlm.engines.bundle import Bundle, amend_manifest, write_manifest
from mobilevlm.engines.machine import fingerprint, peak_rss_bytes
from mobilevlm.engines.manifest import Comparison, Manifest
from mobilevlm.engines.signature import SecretKey
from mobilevlm.engines.trust import sign_bundle
from mobilevlm.model.projectors import num_image_tokens
from mobilevlm.text.tokenizer_files import write_tokenizer_files

from .backends.results import Compilation
from .embedding_table import write_table
from .plan import BuildPlan
from .report import render_report
from .stage_forms import stage_forms
from .verification.verify import Difference, verify
from .verification.written_weights import Written


def write_bundle(plan: BuildPlan, key: SecretKey | None = None) -> list[Difference]:
    """Writes, verifies and finishes a bundle.

    Args:
        plan: the build.
        key: to sign the bundle with; None for a bundle without a signature.

    Returns:
        How its tensors compare with PyTorch, as in its `report.md`.

    Raises:
        VerificationError: a stage differs from PyTorch by more than its precision allows; nothing is left behind.
        UserError: a compiler refuses a graph; nothing is left behind.
    """
    start = time.perf_counter()
    with staged(plan.out, plan.overwrite) as directory:
        what, backend = plan.stages, plan.backend
        written = write_files(plan, directory)
        table = np.load(directory / stages.EMBED_TOKENS_FILE, mmap_mode="r")
        runs = backend.run(what, directory)
        result = verify(what.checkpoint, written, directory, runs, table, what.modules, what.max_context)
        compilation = backend.compile(what, directory, written)
        golden = {name: np.ascontiguousarray(value) for name, value in result.golden.items()}
        (directory / stages.GOLDEN_FILE).write_bytes(save(golden))
        report = render_report(plan, directory, result.differences, time.perf_counter() - start, peak_rss_bytes())
        report += written.report + compilation.report + backend.report_sections(what, directory, result.peaks)
        (directory / stages.REPORT_FILE).write_text(report, encoding="utf-8")
        manifest = _write_manifest(plan, directory, result.differences, compilation)
        if judgement := backend.judgement(Bundle(directory, manifest, what.checkpoint.config)):
            (directory / stages.REPORT_FILE).write_text(report + judgement, encoding="utf-8")
            amend_manifest(directory, manifest, [stages.REPORT_FILE])
        if key is not None:
            sign_bundle(directory, key)
    return result.differences


def write_files(plan: BuildPlan, directory: Path) -> Written:
    """Writes the stages, the embedding table and the tokenizer.

    Args:
        plan: the build.
        directory: receives the files.
    """
    what = plan.stages
    with tqdm(total=sum(what.weight_bytes.values()), unit="B", unit_scale=True, disable=None) as progress:
        written = plan.backend.write(what, directory, progress)
        progress.set_description("writing embed_tokens")
        dtype = what.facts[stages.DECODER].table_dtype
        table = what.checkpoint.tensors["model.embed_tokens.weight"]
        write_table(table, directory / stages.EMBED_TOKENS_FILE, dtype, progress.update)
    write_tokenizer_files(what.checkpoint.tokenizer_dir, directory)
    return written


def _write_manifest(
    plan: BuildPlan, directory: Path, differences: Sequence[Difference], compilation: Compilation
) -> Manifest:
    what = plan.stages
    config = what.checkpoint.config
    verification: dict[str, dict[str, Comparison]] = {}
    for item in differences:
        verification.setdefault(item.stage, {})[item.tensor] = item.recorded()
    return write_manifest(
        directory,
        Manifest(
            name=what.checkpoint.name,
            model=config.to_dict(),
            target=what.target.name,
            lowering=what.target.lowering,
            precision=what.precisions,
            max_context=what.max_context,
            num_image_tokens=num_image_tokens(config) if stages.VISION in what.precisions else 0,
            command=plan.command,
            versions=versions(),
            verification=verification,
            parts={part: [layers.start, layers.stop] for part, layers in what.parts.items()},
            compiled=compilation.compiled,
            spare=compilation.spare,
            machine=fingerprint(),
            forms=stage_forms(what.target, what.precisions),
            files={},
        ),
    )


def versions() -> dict[str, str]:
    """Returns the version of everything that can change a bundle, by name."""
    modules = {"torch": torch, "transformers": transformers, "onnx": onnx, "onnxruntime": onnxruntime, "numpy": np}
    return {
        "mobilevlm": __version__,
        "python": platform.python_version(),
        **{name: module.__version__ for name, module in modules.items()},
    }
