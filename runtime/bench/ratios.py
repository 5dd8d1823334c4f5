"""Two bundles that were measured in the same rounds, and how sure their difference is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .figures import Stage

SAMPLES, SEED, CONFIDENCE = 2000, 0, 0.95


@dataclass(frozen=True)
class Ratio:
    """How much longer B takes than A.

    Attributes:
        stage: name of it.
        ratio: median over the rounds of B's time by A's in the same round; below 1 B is faster.
        low, high: the middle 95 % of that median over bootstrap samples of the rounds.
    """

    stage: str
    ratio: float
    low: float
    high: float


def paired_ratio(stage: str, before: Sequence[float], after: Sequence[float]) -> Ratio:
    """Compare repetitions of the same rounds: what slowed a whole round down drops out.

    Args:
        stage: name of it.
        before: A's times, one for each round.
        after: B's, of the same rounds.
    """
    ratios = np.array(after) / np.array(before)
    chosen = np.random.default_rng(SEED).integers(0, len(ratios), (SAMPLES, len(ratios)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.median(ratios[chosen], axis=1), [tail, 1 - tail])
    return Ratio(stage, float(np.median(ratios)), float(low), float(high))


def ratios(first: Sequence[Stage], second: Sequence[Stage]) -> list[Ratio]:
    """Of every stage that both bundles have."""
    others = {stage.name: stage for stage in second}
    shared = [stage for stage in first if stage.name in others]
    return [paired_ratio(stage.name, stage.each, others[stage.name].each) for stage in shared]
