"""Sections of `report.md` that only bundles for an NPU have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mobilevlm.engines.qnn.compile import Compiled
from mobilevlm.engines.qnn.socs import Soc
from mobilevlm.engines.stages import DECODER
from mobilevlm.engines.tables import markdown_lines

from ...calibration.conversations import Conversations
from ..stage_plan import StagePlan
from .sensitivity import Sensitivity


def render_sensitivity(sensitivity: Sequence[Sensitivity], precisions: Mapping[str, str]) -> str:
    """Returns a table of what quantising costs in each block, as Markdown.

    Args:
        sensitivity: every block of every stage.
        precisions: stage to precision.
    """
    lines = [
        "",
        "What coding costs, on calibration data: the signal left behind each block, and the noise that it adds:",
        "",
    ]
    rows = []
    for one in sensitivity:
        added = f"{10 * np.log10(one.noise):.1f}" if one.noise else "none"
        weights = "int16" if one.exact else precisions[one.stage]
        rows.append([one.stage, one.block.split("model.")[-1], f"{one.snr_db:.1f}", added, weights])
    lines += markdown_lines(["stage", "block", "SNR behind it, dB", "noise it adds, dB", "weights"], rows)
    return "\n".join(lines) + "\n"


def render_compiled(soc: Soc, compiled: Sequence[Compiled]) -> str:
    """Returns a table of what came of compiling each graph, as Markdown.

    Args:
        soc: what they were compiled for.
        compiled: every graph.
    """
    lines = [
        "",
        f"Compiled for {soc}:",
        "",
    ]
    rows = [
        [one.name, str(one.nodes), str(one.npu_nodes), f"{one.seconds:.0f}", f"{one.peak_rss_bytes / 2**30:.1f}"]
        for one in compiled
    ]
    lines += markdown_lines(["graph", "operators", "on the NPU", "seconds", "peak memory GiB"], rows)
    return "\n".join(lines) + "\n"


def npu_lines(plan: StagePlan, calibration: Conversations, soc: Soc | None, cache_row: int) -> list[str]:
    """Returns items on how ranges were found, what a token reads, and how many tokens a second memory allows.

    Args:
        plan: the stages.
        calibration: what ranges were found on.
        soc: what graphs are compiled for, None where they are not.
        cache_row: bytes of the kv cache for one token.
    """
    count, path = len(calibration.rows), calibration.path
    table = plan.checkpoint.config.vocab_size * plan.checkpoint.config.hidden_size * 2
    token = plan.weight_bytes[DECODER] - table + plan.max_context * cache_row
    lines = [
        f"- ranges of 16-bit values from {count} conversation{'s' * (count > 1)} of {path.name}",
        f"- a token reads {token / 1e6:,.0f} MB: weights, and all rows of the cache",
    ]
    if soc:
        limit = soc.gigabytes * 1e9 / token
        lines.append(
            f"- the memory of {soc} delivers {soc.gigabytes} GB/s on paper: at most {limit:.0f} tokens/s "
            "(*not measured*)"
        )
    return lines
