"""How sure a difference of two scores is, when both were measured on the same questions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .task import Counts

SAMPLES, SEED = 2000, 0
CONFIDENCE = 0.95
CHUNK = 100  # samples drawn at a time: 10,000 questions take 8 MB then


def interval(before: Counts, after: Counts, score: Callable[[dict[str, float]], float]) -> tuple[float, float]:
    """The middle 95 % of the difference over bootstrap samples of the units, the same units for both.

    Paired: what is hard is hard for both, and drops out of the difference. Percentile method (Efron, 1979).

    Args:
        before: of the reference.
        after: of what is compared with it, of the same units.
        score: from summed columns, see `Task.metrics`.

    Returns:
        Lower and upper end of `after` minus `before`.

    Raises:
        ValueError: there are no units, or not the same.
    """
    if not before.ids or before.ids != after.ids:
        raise ValueError("both need the same units, and one at least")
    draws, units = np.random.default_rng(SEED), len(before.ids)
    differences = []
    for _ in range(0, SAMPLES, CHUNK):
        weights = draws.multinomial(units, np.full(units, 1 / units), size=CHUNK)
        for low, high in zip(weights @ before.rows, weights @ after.rows, strict=True):
            totals = (dict(zip(before.names, sums.tolist(), strict=True)) for sums in (low, high))
            first, second = (score(total) for total in totals)
            differences.append(second - first)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(differences, [tail, 1 - tail])
    return float(low), float(high)
