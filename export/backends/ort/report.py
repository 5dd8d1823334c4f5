"""Lines of `report.md` that only bundles for a CPU have."""

from __future__ import annotations

from mobilevlm.engines.stages import DECODER

from ..stage_plan import StagePlan


def weight_lines(plan: StagePlan) -> list[str]:
    """Returns the item on how the decoder's quantised weights were chosen."""
    if plan.calibration and plan.choose_weights:
        count, path = len(plan.calibration.rows), plan.calibration.path
        return [f"- decoder weights chosen by GPTQ on {count} conversations of {path.name}"]
    if plan.facts[DECODER].chooses_weights:
        return ["- decoder weights rounded one by one: random ones have nothing to be calibrated on"]
    return []
