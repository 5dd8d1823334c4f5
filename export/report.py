"""`report.md` of a bundle: what was built, from what, how big it is and how close to PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mobilevlm.engines.stages import DECODER, VISION
from mobilevlm.engines.targets import CALIBRATED, QUANTIZED, TENSORRT, has_int8_cache

from .backends.qnn.report import npu_lines
from .backends.tensorrt.report import tensorrt_lines

if TYPE_CHECKING:
    from .plan import BuildPlan
    from .verification.verify import Difference


def render_report(
    plan: BuildPlan,
    directory: Path,
    differences: list[Difference],
    seconds: float,
    peak_rss_bytes: int,
) -> str:
    """Markdown for people; the same figures are in `bundle.json`."""
    config = plan.checkpoint.config
    precisions = ", ".join(f"{stage} {name}" for stage, name in plan.precisions.items())
    on_npu = plan.target.backend == "qnn"
    cache_bytes = 1 if has_int8_cache(plan.precisions) or on_npu else 4
    if plan.target.backend == TENSORRT and plan.precisions[DECODER] != "fp32":
        cache_bytes = 2
    cache_row = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * cache_bytes
    lines = [
        f"# {plan.checkpoint.name} for {plan.target.name}",
        "",
        f"- device: {plan.target.device}",
        f"- precision: {precisions}",
        f"- decoder: {config.num_hidden_layers} layers of {config.hidden_size}, vocabulary {config.vocab_size}, "
        f"context {plan.max_context}, kv cache {cache_row / 1024:.0f} KiB a token",
    ]
    if VISION in plan.precisions:
        vision = config.vision
        lines.append(
            f"- vision: {config.num_vision_layers} CLIP layers of {vision.hidden_size} at {vision.image_size} px, "
            f"{config.mm_projector_type}"
        )
    if on_npu:
        lines += npu_lines(plan, cache_row)
    elif plan.target.backend == TENSORRT:
        lines += tensorrt_lines(plan)
    elif plan.calibration and plan.choose_weights:
        count, path = len(plan.calibration.rows), plan.calibration.path
        lines.append(f"- decoder weights chosen by GPTQ on {count} conversations of {path.name}")
    elif plan.precisions[DECODER] in QUANTIZED and plan.precisions[DECODER] in CALIBRATED:
        lines.append("- decoder weights rounded one by one: random ones have nothing to be calibrated on")
    lines += [
        f"- built in {seconds:.0f} s with a peak of {peak_rss_bytes / 2**30:.2f} GiB of memory by: `{plan.command}`",
        "",
        "| file | MB |",
        "|---|---|",
    ]
    files = sorted(directory.iterdir(), key=lambda path: -path.stat().st_size)
    lines += [f"| {path.name} | {path.stat().st_size / 1e6:.2f} |" for path in files]
    lines += [
        "",
        "Signal to noise on one picture and question, against PyTorch in float32; lines of a `.form`, against PyTorch "
        "on the weights that were written, the worst layer and row of the kv cache included. Floors: see "
        "`docs/accuracy.md`.",
        "",
        "| stage | tensor | SNR dB | floor dB | max difference | mean | largest reference value | allowed max |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {item.stage} | {item.tensor} | {item.snr_db:.1f} | {item.floor_db:.1f} | {item.max_abs_diff:.2e} | "
        f"{item.mean_abs_diff:.2e} | {item.max_abs_reference:.3g} | {item.allowed:.2e} |"
        for item in differences
    ]
    return "\n".join(lines) + "\n"
