"""Calibration of closed questions: the right answers, the errors, the temperature, and the command."""

from __future__ import annotations

import json
import math
import re
import shutil

import numpy as np
import pytest

from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.choice_calibration import ChoiceCalibration, read_choice_calibration
from mobilevlm.eval.closed_questions import agreement, closed_questions, contradictions, of_different_images
from mobilevlm.eval.reliability import (
    Scored,
    answered_above,
    error_difference,
    expected_calibration_error,
    fit_temperature,
)
from mobilevlm.eval.task import YES_NO
from mobilevlm.eval.tasks import TASKS
from tests.conftest import CHAT, ROOT, run

CALIBRATE = ROOT / "eval" / "calibrate_choices.py"
QUESTIONS = 12


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The six benchmarks in small, from scenes."""
    out = tmp_path_factory.mktemp("data") / "demo"
    done = run(ROOT / "train/demo/make_benchmarks.py", "--out", out, "--questions", QUESTIONS)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize("name", ["gqa", "sqa", "pope", "mme", "mmbench"])
def test_the_right_choices_are_right_by_the_official_rules(data, name):
    """Answers made of the right choices get the best score there is, those made of wrong ones the worst."""
    task = TASKS[name]
    closed = task.closed_questions(data)
    assert closed and all(0 <= one.right < len(one.choices) for one in closed)
    right = [one.question.answered(one.choices[one.right]) for one in closed]
    wrong = [one.question.answered(one.choices[one.right - 1]) for one in closed]
    best, worst = (task.metrics(task.counts(data, answers).total())[task.headline] for answers in (right, wrong))
    categories = len({str(one.question.id).split("/")[0] for one in closed})
    assert (best, worst) == (200 * categories if name == "mme" else 100, 0)


def test_only_questions_with_few_answers_are_closed(data):
    assert TASKS["textvqa"].closed_questions(data) == []
    gqa = TASKS["gqa"].closed_questions(data)
    assert {one.choices for one in gqa} == {YES_NO} and len(gqa) < len(TASKS["gqa"].questions(data))


def test_no_image_is_in_both_halves(data):
    asked = closed_questions(data, None)
    halves = [{(one.task, one.closed.group) for one in asked if one.half == half} for half in (0, 1)]
    assert all(halves) and not halves[0] & halves[1]
    assert len([one for one in asked if one.task == "mmbench"]) > len(
        {one.closed.group for one in asked if one.task == "mmbench"}
    )
    limited = closed_questions(data, 3)
    assert max(sum(one.task == name for one in limited) for name in TASKS) == 3
    different = of_different_images(asked, 7)
    assert len(different) == 7 == len({(one.task, one.closed.group) for one in different})
    assert len({one.task for one in different}) > 1


def textbook_error(confidence, right) -> float:
    """Expected calibration error as Guo et al. (2017) define it: bins (m - 1)/15 < confidence <= m/15."""
    total = 0.0
    for m in range(1, 16):
        inside = [i for i, value in enumerate(confidence) if (m - 1) / 15 < value <= m / 15]
        if inside:
            accuracy = sum(bool(right[i]) for i in inside) / len(inside)
            total += len(inside) * abs(accuracy - sum(confidence[i] for i in inside) / len(inside))
    return total / len(confidence)


def test_the_calibration_error_is_the_textbooks():
    by_hand = expected_calibration_error(np.array([0.9, 0.92, 0.61, 0.65]), np.array([True, False, True, True]))
    # Bins (0.6, 0.667] and (0.867, 0.933]: |1 - 0.63| and |0.5 - 0.91|, each half of the questions.
    assert by_hand == pytest.approx((0.37 + 0.41) / 2)
    rng = np.random.default_rng(3)
    for _ in range(20):
        confidence = rng.uniform(0.01, 0.999, 200)
        right = rng.random(200) < confidence**2
        assert expected_calibration_error(confidence, right) == pytest.approx(textbook_error(confidence, right))
    assert expected_calibration_error(np.array([1.0]), np.array([True])) == 0


def drawn(temperature: float, count: int = 4000) -> Scored:
    """Questions with two to four choices, whose right ones are drawn from the softmax at a temperature."""
    rng = np.random.default_rng(1)
    scores, right = [], []
    for _ in range(count):
        own = rng.normal(0, 3, rng.integers(2, 5))
        weights = np.exp(own / temperature)
        scores.append(own.tolist())
        right.append(int(rng.choice(len(own), p=weights / weights.sum())))
    return Scored.of(scores, right)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_temperature_that_made_the_answers_is_found(temperature):
    scored = drawn(temperature)
    found = fit_temperature(scored)
    assert found == pytest.approx(temperature, rel=0.06)
    grid = [scored.negative_log_likelihood(value) for value in np.geomspace(0.05, 20, 400)]
    assert scored.negative_log_likelihood(found) <= min(grid)
    assert scored.calibration_error(found) < 0.03
    if temperature != 1:
        assert scored.calibration_error(found) < scored.calibration_error(1.0)
    assert scored.accuracy() == scored.likeliest(found)[1].mean()


def test_the_interval_of_the_errors_difference_holds_what_is_certain():
    low, high = error_difference(drawn(2.5), 2.5)
    assert low < high < -0.05  # far too sure before, right after
    low, high = error_difference(drawn(1.0), 1.02)
    assert low < 0 < high


def test_likelihood_and_threshold_by_hand():
    scored = Scored.of([[math.log(0.8), math.log(0.2)], [math.log(0.5), math.log(0.3), math.log(0.2)]], [0, 1])
    assert scored.negative_log_likelihood(1.0) == pytest.approx(-(math.log(0.8) + math.log(0.3)) / 2)
    found = answered_above(scored, 1.0, 0.6)
    assert (found.share, found.accuracy) == (0.5, 1.0) and answered_above(scored, 1.0, 0.0).accuracy == 0.5
    assert math.isnan(answered_above(scored, 1.0, 0.9).accuracy)


def test_contradictions_are_the_widest_of_pairs_in_another_order():
    """Against all pairs, looked at one by one."""
    draws = np.random.default_rng(3)
    scores = [draws.normal(size=count).tolist() for count in (2, 2, 3, 5, 8)]
    others = [(np.array(one) + 2 * draws.normal(size=len(one))).tolist() for one in scores[:-1]] + [scores[-1]]
    found = contradictions(scores, others, 1.5)
    for one, other, widest in zip(scores, others, found, strict=True):
        weights = [math.exp(value / 1.5) for value in one]
        pairs = [
            (weights[a] - weights[b]) / sum(weights)
            for a in range(len(one))
            for b in range(len(one))
            if weights[a] > weights[b] and other[a] <= other[b]
        ]
        assert widest == pytest.approx(max(pairs, default=0.0))
    assert found[-1] == 0 < max(found)


def test_agreement_counts_answers_and_rankings():
    scores = [[3, 2, 1.9], [1, 2, 3], [2, 1], [5, 5.01]]
    found = agreement(scores, [[9, 5, 6], [0, 1, 2], [1, 2], [5.01, 5]])
    assert (found.questions, found.answers, found.rankings) == pytest.approx((4, 2 / 4, 1 / 4))
    assert found.clear == 3 / 4  # the second and third choices of the first question are not apart, nor is the last


def test_the_command_fits_reports_and_stores(data, demo_fp32, tmp_path):
    copy = shutil.copytree(demo_fp32, tmp_path / "bundle")
    options = ("--engine", copy, "--data", data, "--limit", 6)
    tried = run(CALIBRATE, *options, "--dry-run", "--against", demo_fp32, "--time", 5)
    assert tried.returncode == 0, tried.stderr
    assert read_choice_calibration(Bundle.open(copy)) == ChoiceCalibration()
    assert re.search(r"\| all \| \d+ \| 100\.00 \| 100\.00 \| 100\.00 \|", tried.stdout)
    assert re.search(r"5 questions in turn, image encoded before: closed [\d.]+ ms, generated [\d.]+ ms", tried.stdout)
    assert re.search(r"ratio \d\.\d+, 95 % within \d\.\d+ and \d\.\d+", tried.stdout)
    done = run(CALIBRATE, *options, "--abstain", "0.97")
    assert done.returncode == 0, done.stderr
    fitted = float(re.match(r"temperature ([\d.]+), fitted on (\d+) questions", done.stdout)[1])
    stored = read_choice_calibration(Bundle.open(copy))
    assert stored.temperature == pytest.approx(fitted, abs=1e-3) and stored.abstain == 0.97
    assert stored.fitted_on + int(re.search(r"\| all \| (\d+) \|", done.stdout)[1]) == len(closed_questions(data, 6))
    assert done.stdout.splitlines()[0] == tried.stdout.splitlines()[0]  # the stored one does not change the scores
    asked = ("--prompt", "What color is the circle?", "--image", ROOT / "assets" / "shapes.png")
    plain, warm = (
        json.loads(run(CHAT, "--engine", engine, *asked, "--choices", "red, blue,green", "--json").stdout)
        for engine in (demo_fp32, copy)
    )
    assert warm["choices"] == ["red", "blue", "green"] and warm["logprobs"] == pytest.approx(
        plain["logprobs"], abs=1e-4
    )
    weights = [
        math.exp(value / count / stored.temperature)
        for value, count in zip(warm["logprobs"], warm["tokens"], strict=True)
    ]
    assert warm["probabilities"] == pytest.approx([weight / sum(weights) for weight in weights], abs=1e-4)


WRONG = {
    "no data": (("--data", "nowhere"), "has no closed questions to calibrate with"),
    "limit": (("--limit", "0"), "--limit is 0; at least 1 is needed"),
    "time": (("--time", "-1"), "--time is -1; at least 1 is needed"),
    "abstain": (("--abstain", "1.5"), "the abstain threshold is 1.5; it has to be a probability"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_options_are_refused_in_one_line(case, demo_fp32):
    options, message = WRONG[case]
    done = run(CALIBRATE, "--engine", demo_fp32, *options)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1
