"""The paired interval against theory for a mean, and against plain resampling for a score that is none."""

from collections import defaultdict

import numpy as np
import pytest

from mobilevlm.eval.bootstrap import interval
from mobilevlm.eval.task import Counts
from mobilevlm.eval.tasks import TASKS


def of(rows: np.ndarray, names: tuple[str, ...]) -> Counts:
    return Counts([str(i) for i in range(len(rows))], names, rows.astype(float))


def mean(total: dict[str, float]) -> float:
    return 100 * total["right"] / total["n"]


def test_of_a_mean_it_is_the_normal_approximation():
    """Mean difference plus and minus 1.96 standard errors of the paired differences."""
    draws = np.random.default_rng(1)
    before, after = draws.random(800) < 0.7, draws.random(800) < 0.75
    low, high = interval(*(of(np.stack([x, np.ones(800)], 1), ("right", "n")) for x in (before, after)), mean)
    change = 100 * (after.astype(float) - before)
    error = 1.96 * change.std() / 800**0.5
    assert (low, high) == pytest.approx((change.mean() - error, change.mean() + error), abs=0.12 * error)


def test_what_both_get_wrong_does_not_widen_it():
    """Paired: two runs with the same answers differ by nothing, however few are right."""
    rows = np.stack([np.arange(50) % 3 == 0, np.ones(50)], 1)
    assert interval(of(rows, ("right", "n")), of(rows, ("right", "n")), mean) == (0.0, 0.0)


def test_of_a_ratio_it_is_plain_resampling():
    """F1 of counts, by drawing questions one by one with another generator."""
    draws = np.random.default_rng(2)
    label = draws.random(300) < 0.5
    said = [np.where(draws.random(300) < right, label, ~label) for right in (0.8, 0.9)]
    names = ("tp", "fp", "fn")
    tables = [np.stack([s & label, s & ~label, ~s & label], 1) for s in said]

    def f1(total: dict[str, float]) -> float:
        return 200 * total["tp"] / (2 * total["tp"] + total["fp"] + total["fn"])

    found = interval(*(of(table, names) for table in tables), f1)
    differences = []
    for _ in range(3000):
        chosen = draws.integers(0, 300, 300)
        sums = [dict(zip(names, table[chosen].sum(0).tolist(), strict=True)) for table in tables]
        differences.append(f1(sums[1]) - f1(sums[0]))
    expected = np.quantile(differences, [0.025, 0.975])
    assert found == pytest.approx(tuple(expected), abs=0.1 * (expected[1] - expected[0]))


def test_other_units_are_no_pair():
    rows = np.ones((3, 2))
    other = Counts(["a", "b", "c"], ("right", "n"), rows)
    with pytest.raises(ValueError, match="same units"):
        interval(of(rows, ("right", "n")), other, mean)
    with pytest.raises(ValueError, match="one at least"):
        interval(of(rows[:0], ("right", "n")), of(rows[:0], ("right", "n")), mean)


@pytest.mark.parametrize("name", TASKS)
def test_a_sample_without_any_case_of_a_kind_has_a_score(name):
    """Small sets have samples in which a category is empty; no score divides by zero."""
    metrics = TASKS[name].metrics(defaultdict(float))
    assert metrics[TASKS[name].headline] == 0 and TASKS[name].graded(defaultdict(float)) == 0
