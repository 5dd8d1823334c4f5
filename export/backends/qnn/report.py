"""What `report.md` says of a bundle for an NPU, beside what it says of all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mobilevlm.engines.stages import DECODER

if TYPE_CHECKING:
    from mobilevlm.engines.qnn.compile import Compiled

    from ...plan import BuildPlan
    from .sensitivity import Sensitivity


def render_npu(plan: BuildPlan, sensitivity: list[Sensitivity], compiled: list[Compiled]) -> str:
    """Markdown: what each block costs, and what came of compiling."""
    lines = [
        "",
        "What coding costs, on calibration data: the signal left behind each block, and the noise that it adds:",
        "",
        "| stage | block | SNR behind it, dB | noise it adds, dB | weights |",
        "|---|---|---|---|---|",
    ]
    for one in sensitivity:
        added = f"{10 * np.log10(one.noise):.1f}" if one.noise else "none"
        weights = "int16" if one.exact else plan.precisions[one.stage]
        lines.append(f"| {one.stage} | {one.block.split('model.')[-1]} | {one.snr_db:.1f} | {added} | {weights} |")
    if compiled:
        lines += [
            "",
            f"Compiled for {plan.soc}:",
            "",
            "| graph | operators | on the NPU | seconds | peak memory GiB |",
            "|---|---|---|---|---|",
        ]
    lines += [
        f"| {one.name} | {one.nodes} | {one.npu_nodes} | {one.seconds:.0f} | {one.peak_rss_bytes / 2**30:.1f} |"
        for one in compiled
    ]
    return "\n".join(lines) + "\n"


def npu_lines(plan: BuildPlan, cache_row: int) -> list[str]:
    """How ranges were found, what a token reads and how many of them memory allows; `cache_row` is a row's bytes."""
    count, path = len(plan.calibration.rows), plan.calibration.path
    table = plan.checkpoint.config.vocab_size * plan.checkpoint.config.hidden_size * 2
    token = plan.weight_bytes[DECODER] - table + plan.max_context * cache_row
    lines = [
        f"- ranges of 16-bit values from {count} conversation{'s' * (count > 1)} of {path.name}",
        f"- a token reads {token / 1e6:,.0f} MB: weights, and all rows of the cache",
    ]
    if plan.soc:
        limit = plan.soc.gigabytes * 1e9 / token
        lines.append(
            f"- the memory of {plan.soc} delivers {plan.soc.gigabytes} GB/s on paper: at most {limit:.0f} tokens/s "
            "(*not measured*)"
        )
    return lines
