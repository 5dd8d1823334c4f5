"""Bootstrap intervals: how sure a statistic is, by drawing the measured units again with replacement.

Percentile method (Efron, 1979). Every interval of this project comes from here: ratios of times (`ratios.py`) and
differences of scores (`eval/bootstrap.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

SAMPLES, SEED = 2000, 0
CONFIDENCE = 0.95


def interval(
    statistic: Callable[..., Sequence[float] | np.ndarray],
    *sizes: int,
    as_weights: bool = False,
    samples_at_once: int = SAMPLES,
) -> tuple[float, float]:
    """Returns the ends of the middle 95 % of a statistic over bootstrap samples.

    Args:
        statistic: takes one array for each of `sizes`, one bootstrap sample a row, and returns a value for each row.
        sizes: number of units of each group; groups are drawn independently. Paired measurements are one group.
        as_weights: what `statistic` takes: False for the indices that were drawn, (samples, size); True for how often
            each unit was drawn, (samples, size), which is what a function of sums over units needs.
        samples_at_once: bounds the memory; divides `SAMPLES`.
    """
    draws = np.random.default_rng(SEED)
    values: list[float] = []
    for _ in range(0, SAMPLES, samples_at_once):
        values.extend(statistic(*(_drawn(draws, size, samples_at_once, as_weights) for size in sizes)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _drawn(draws: np.random.Generator, size: int, samples: int, as_weights: bool) -> np.ndarray:
    if as_weights:
        return draws.multinomial(size, np.full(size, 1 / size), size=samples)
    return draws.integers(0, size, (samples, size))
