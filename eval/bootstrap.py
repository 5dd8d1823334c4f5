"""How sure a difference of two scores is, when both were measured on the same questions."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from mobilevlm.runtime.bench import intervals

from .task import Counts

SAMPLES_AT_ONCE = 100  # 10,000 questions take 8 MB then


def interval(before: Counts, after: Counts, score: Callable[[dict[str, float]], float]) -> tuple[float, float]:
    """Returns the middle 95 % of the difference over bootstrap samples of the units, the same units for both.

    Paired: what is hard is hard for both, and drops out of the difference.

    Args:
        before: counts of the reference.
        after: counts of what is compared with it, of the same units.
        score: function of summed columns, see `Task.metrics`.

    Returns:
        Lower and upper end of `after` minus `before`.

    Raises:
        ValueError: there are no units, or not the same.
    """
    if not before.ids or before.ids != after.ids:
        raise ValueError("both need the same units, and one at least")

    def scores(counts: Counts, weights: np.ndarray) -> Iterator[float]:
        for sums in weights @ counts.rows:
            yield score(dict(zip(counts.names, sums.tolist(), strict=True)))

    def differences(weights: np.ndarray) -> list[float]:
        each = zip(scores(before, weights), scores(after, weights), strict=True)
        return [second - first for first, second in each]

    return intervals.interval(differences, len(before.ids), as_weights=True, samples_at_once=SAMPLES_AT_ONCE)
