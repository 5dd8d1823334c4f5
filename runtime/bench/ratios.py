"""Ratio of two bundles' times, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .figures import Stage
from .intervals import interval

COLUMNS = ("stage", "A ms", "B ms", "B / A", "95 % interval")


@dataclass(frozen=True)
class Ratio:
    """How much longer B takes than A.

    Attributes:
        stage: its name.
        ratio: B's time by A's; below 1 B is faster.
        low, high: the middle 95 % of it over bootstrap samples.
    """

    stage: str
    ratio: float
    low: float
    high: float

    def cells(self, before_ms: float, after_ms: float) -> list[str]:
        """Returns its row under `COLUMNS`.

        Args:
            before_ms: median of A's times.
            after_ms: median of B's times.
        """
        times = [f"{before_ms:.2f}", f"{after_ms:.2f}"]
        return [self.stage, *times, f"{self.ratio:.3f}", f"{self.low:.3f}-{self.high:.3f}"]


def paired_ratio(stage: str, before: Sequence[float], after: Sequence[float]) -> Ratio:
    """Compares bundles measured in the same rounds: what slowed a whole round down drops out.

    The ratio is the median over the rounds of B's time by A's; rounds are drawn.

    Args:
        stage: its name.
        before: A's times in ms, one for each round.
        after: B's, of the same rounds.
    """
    ratios = np.array(after) / np.array(before)
    low, high = interval(lambda rounds: np.median(ratios[rounds], axis=1), len(ratios))
    return Ratio(stage, float(np.median(ratios)), low, high)


def unpaired_ratio(stage: str, before: Sequence[float], after: Sequence[float]) -> Ratio:
    """Compares bundles measured in separate runs.

    The ratio is that of the medians; the times of both runs are drawn. It holds what varies within a run, not what
    would differ if a run were repeated as a whole.

    Args:
        stage: its name.
        before: A's times in ms.
        after: B's; they need not be as many.
    """
    first, second = np.array(before), np.array(after)

    def ratio_of_medians(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        return np.median(second[theirs], axis=1) / np.median(first[ours], axis=1)

    low, high = interval(ratio_of_medians, len(first), len(second))
    return Ratio(stage, float(np.median(second) / np.median(first)), low, high)


def ratios(first: Sequence[Stage], second: Sequence[Stage]) -> list[Ratio]:
    """Returns the ratio of every stage that both bundles have.

    Args:
        first: stages of A.
        second: stages of B, measured in the same rounds.
    """
    others = {stage.name: stage for stage in second}
    shared = [stage for stage in first if stage.name in others]
    return [paired_ratio(stage.name, stage.each, others[stage.name].each) for stage in shared]
