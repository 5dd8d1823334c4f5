"""The result of a comparison: one run beside the reference, on one benchmark."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """One run beside the reference, on one benchmark.

    Attributes:
        task, metric: what is compared.
        run: name of the run.
        n: number of questions that the score is over, which both answered.
        score: the run's.
        agreement: share of all answers that are the reference's word for word, 0 to 1.
        difference: score minus the reference's; 0 for the reference itself.
        low, high: ends of the interval that holds 95 % of the bootstrap samples of the difference.
    """

    task: str
    metric: str
    run: str
    n: int
    score: float
    agreement: float
    difference: float
    low: float
    high: float
