"""How well probabilities of closed questions hold: expected calibration error, and the temperature that makes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mobilevlm.runtime.bench import intervals

BINS = 15
COOLEST, HOTTEST = 1 / 50, 50.0  # temperatures between which the best one is looked for
_GOLDEN = (math.sqrt(5) - 1) / 2
_STEPS = 60  # of the search: leave 1e-12 of the interval


@dataclass(frozen=True)
class Scored:
    """Scores of closed questions. Q questions, C choices of the one that has most.

    Attributes:
        scores: (Q, C) float64, -inf where a question has no such choice.
        right: (Q,) integers, index of the right choice.
    """

    scores: np.ndarray
    right: np.ndarray

    @classmethod
    def of(cls, scores: Sequence[Sequence[float]], right: Sequence[int]) -> Scored:
        """Pads scores to a table.

        Args:
            scores: of each question's choices.
            right: index of the right choice of each question.
        """
        table = np.full((len(scores), max(map(len, scores), default=0)), -np.inf)
        for row, values in zip(table, scores, strict=True):
            row[: len(values)] = values
        return cls(table, np.asarray(right, np.int64))

    def logprobs(self, temperature: float) -> np.ndarray:
        """Log-probabilities of the choices, (Q, C), at a temperature."""
        scaled = self.scores / temperature
        scaled = scaled - scaled.max(1, keepdims=True)
        return scaled - np.log(np.exp(scaled).sum(1, keepdims=True))

    def likeliest(self, temperature: float) -> tuple[np.ndarray, np.ndarray]:
        """Probability of each question's likeliest choice, and whether that is right: (Q,) float64 and (Q,) bool."""
        probabilities = np.exp(self.logprobs(temperature))
        return probabilities.max(1), probabilities.argmax(1) == self.right

    def accuracy(self) -> float:
        """Share of questions whose likeliest choice is right, which no temperature changes."""
        return float(self.likeliest(1.0)[1].mean())

    def negative_log_likelihood(self, temperature: float) -> float:
        """Mean negative logarithm of the right choice's probability."""
        return float(-self.logprobs(temperature)[np.arange(len(self.right)), self.right].mean())

    def calibration_error(self, temperature: float) -> float:
        """Expected calibration error at a temperature, see `expected_calibration_error`."""
        return expected_calibration_error(*self.likeliest(temperature))


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Mean difference of confidence and accuracy over `BINS` equally wide bins, each weighed by its questions.

    Args:
        confidence: (Q,) float64, probability of the answer; a bin includes its upper end.
        right: (Q,) bool, whether the answer is right.
    """
    bins = np.clip(np.ceil(confidence * BINS) - 1, 0, BINS - 1).astype(int)
    differences = np.bincount(bins, confidence - right, BINS)
    return float(np.abs(differences).sum() / len(confidence))


def fit_temperature(scored: Scored) -> float:
    """Returns the temperature of the least negative log-likelihood, which is convex in its inverse."""
    low, high = 1 / HOTTEST, 1 / COOLEST
    for _ in range(_STEPS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if scored.negative_log_likelihood(1 / left) < scored.negative_log_likelihood(1 / right):
            high = right
        else:
            low = left
    return 2 / (low + high)


def error_difference(scored: Scored, temperature: float) -> tuple[float, float]:
    """Returns the middle 95 % of what a temperature adds to the calibration error, over bootstrap samples of questions.

    Args:
        scored: questions that the temperature was not fitted on.
        temperature: compared with temperature 1, on the same questions.
    """
    before, after = scored.likeliest(1.0), scored.likeliest(temperature)

    def differences(samples: np.ndarray) -> list[float]:
        return [
            expected_calibration_error(after[0][kept], after[1][kept])
            - expected_calibration_error(before[0][kept], before[1][kept])
            for kept in samples
        ]

    return intervals.interval(differences, len(scored.right))


@dataclass(frozen=True)
class Answered:
    """What is left of some questions by an abstain threshold.

    Attributes:
        threshold: probability below which a question is not answered.
        share: of the questions that is answered.
        accuracy: of the answers; not a number where there are none.
    """

    threshold: float
    share: float
    accuracy: float


def answered_above(scored: Scored, temperature: float, threshold: float) -> Answered:
    """Returns how many questions an abstain threshold leaves, and how many of these are answered right.

    Args:
        scored: the questions.
        temperature: of their probabilities.
        threshold: probability below which a question is not answered.
    """
    confidence, right = scored.likeliest(temperature)
    kept = confidence >= threshold
    return Answered(threshold, float(kept.mean()), float(right[kept].mean()) if kept.any() else math.nan)
