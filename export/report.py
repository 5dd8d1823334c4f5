"""`report.md` of a bundle: what was built, from what, how big it is and how close to PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mobilevlm.engines.stages import DECODER, VISION
from mobilevlm.engines.tables import markdown_lines

from .plan import BuildPlan
from .stage_forms import stage_forms
from .verification.differences import Difference

DIFFERENCE_COLUMNS = (
    "stage",
    "tensor",
    "SNR dB",
    "floor dB",
    "max difference",
    "mean",
    "largest reference value",
    "allowed max",
)


def render_report(
    plan: BuildPlan, directory: Path, differences: Sequence[Difference], seconds: float, peak_rss_bytes: int
) -> str:
    """Returns the report's beginning, which every bundle has, as Markdown; `bundle.json` has the same figures.

    Args:
        plan: the build.
        directory: holds the bundle's files.
        differences: how each tensor compares with PyTorch's.
        seconds: that the build took.
        peak_rss_bytes: the most memory that it took.
    """
    lines = [
        *_head(plan),
        f"- built in {seconds:.0f} s with a peak of {peak_rss_bytes / 2**30:.2f} GiB of memory by: `{plan.command}`",
        "",
    ]
    files = sorted(directory.iterdir(), key=lambda path: -path.stat().st_size)
    lines += markdown_lines(["file", "MB"], ([path.name, f"{path.stat().st_size / 1e6:.2f}"] for path in files))
    lines += [
        "",
        "Signal to noise on one picture and question, against PyTorch in float32; lines of a `.form`, against PyTorch "
        "on the weights that were written, the worst layer and row of the kv cache included. Floors: see "
        "`docs/accuracy.md`.",
        "",
        *markdown_lines(DIFFERENCE_COLUMNS, map(_difference_cells, differences)),
    ]
    return "\n".join(lines) + "\n"


def _difference_cells(item: Difference) -> list[str]:
    distances = [f"{item.max_abs_diff:.2e}", f"{item.mean_abs_diff:.2e}", f"{item.max_abs_reference:.3g}"]
    return [item.stage, item.tensor, f"{item.snr_db:.1f}", f"{item.floor_db:.1f}", *distances, f"{item.allowed:.2e}"]


def _head(plan: BuildPlan) -> list[str]:
    """Title, and items about the model and its stages."""
    stages = plan.stages
    config, target = stages.checkpoint.config, stages.target
    cache_row = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    cache_row *= np.dtype(stage_forms(stages.target, stages.precisions)[DECODER].cache_dtype).itemsize
    lines = [
        f"# {stages.checkpoint.name} for {target.name}",
        "",
        f"- device: {target.device}",
        f"- precision: {', '.join(f'{stage} {name}' for stage, name in stages.precisions.items())}",
        f"- decoder: {config.num_hidden_layers} layers of {config.hidden_size}, vocabulary {config.vocab_size}, "
        f"context {stages.max_context}, kv cache {cache_row / 1024:.0f} KiB a token",
    ]
    if VISION in stages.precisions and config.vision:
        lines.append(
            f"- vision: {config.num_vision_layers} CLIP layers of {config.vision.hidden_size} at "
            f"{config.vision.image_size} px, {config.mm_projector_type}"
        )
    return lines + plan.backend.report_lines(stages, cache_row)
