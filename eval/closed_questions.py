"""Asks a bundle the closed questions of the benchmarks, and times them against generated answers."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobilevlm.errors import UserError
from mobilevlm.runtime.closed_question import probabilities_of
from mobilevlm.runtime.session import Session

from .engine import pixels_of
from .reliability import Scored
from .task import ClosedQuestion
from .tasks import TASKS

HALVES = 2
CLEAR = 0.05  # of probability


@dataclass(frozen=True)
class Asked:
    """A closed question of a benchmark.

    Attributes:
        task: name of the benchmark.
        half: 0 for those that the temperature is fitted on, 1 for those that it is judged on.
        closed: the question, its choices and the right one.
    """

    task: str
    half: int
    closed: ClosedQuestion


def closed_questions(data: Path, limit: int | None) -> list[Asked]:
    """Reads the closed questions of all benchmarks that are there, half of each benchmark's groups in each half.

    Args:
        data: the directory that has `benchmark_data`.
        limit: only the first of each benchmark; None for all.

    Raises:
        UserError: no benchmark with closed questions is there, or the files of one are damaged.
    """
    asked = []
    for task in TASKS.values():
        if not (data / task.files.annotations).is_file():
            continue
        groups: dict[str, int] = {}
        for closed in task.closed_questions(data)[:limit]:
            half = groups.setdefault(closed.group, len(groups) % HALVES)
            asked.append(Asked(task.name, half, closed))
    if len({one.half for one in asked}) < HALVES:
        raise UserError(f"{data / 'benchmark_data'} has no closed questions to calibrate with: see docs/evaluation.md")
    return asked


def ask_all(session: Session, asked: Sequence[Asked], conv_mode: str | None) -> list[list[float]]:
    """Returns the scores of each question's choices, mean log-probabilities of their tokens.

    Args:
        session: answers the questions.
        asked: all of them.
        conv_mode: the conversation template; None for the model's own.

    Raises:
        UserError: a question cannot be asked.
    """
    from tqdm import tqdm

    scores = []
    for one in tqdm(asked, desc=session.bundle.directory.name, unit="q", disable=None, file=sys.stderr):
        question = one.closed.question
        pixels = pixels_of(question, session.config)
        choice = session.choose(question.text, one.closed.choices, pixels, conv_mode=conv_mode)
        scores.append([logprob / count for logprob, count in zip(choice.logprobs, choice.tokens, strict=True)])
    return scores


def half_of(asked: Sequence[Asked], scores: Sequence[Sequence[float]], half: int) -> Scored:
    """Returns the scores of one half of the questions.

    Args:
        asked: all questions.
        scores: of each question's choices.
        half: 0 or 1, see `Asked`.
    """
    kept = [(own, one.closed.right) for one, own in zip(asked, scores, strict=True) if one.half == half]
    return Scored.of([own for own, _ in kept], [right for _, right in kept])


@dataclass(frozen=True)
class Agreement:
    """How two bundles rank the same choices.

    Attributes:
        questions: how many were asked.
        answers: share of questions with the same likeliest choice.
        rankings: share of questions with all choices in the same order.
        clear: share of questions with the same order of all choices whose probabilities differ by `CLEAR` or more.
    """

    questions: int
    answers: float
    rankings: float
    clear: float


def agreement(scores: Sequence[Sequence[float]], others: Sequence[Sequence[float]]) -> Agreement:
    """Compares the orders of choices.

    Args:
        scores: of each question's choices; its probabilities, at temperature 1, say which are clearly apart.
        others: of the same, by another bundle.
    """
    same = np.array(
        [_same_order(np.asarray(one), np.asarray(other)) for one, other in zip(scores, others, strict=True)]
    )
    return Agreement(len(same), *same.mean(0).tolist())


def _same_order(scores: np.ndarray, others: np.ndarray) -> tuple[bool, bool, bool]:
    """Returns whether the first choices are the same, the order of all, and of those clearly apart."""
    order, probabilities = np.argsort(-scores), probabilities_of(scores, 1.0)
    apart = probabilities[:, None] - probabilities >= CLEAR
    alike = others[:, None] > others
    return (
        bool(order[0] == np.argmax(others)),
        np.array_equal(order, np.argsort(-others)),
        bool(alike[apart].all()),
    )


def contradictions(
    scores: Sequence[Sequence[float]], others: Sequence[Sequence[float]], temperature: float
) -> np.ndarray:
    """Returns how far apart a bundle puts choices that another bundle has in the other order: (Q,), the most of each.

    Args:
        scores: of each question's choices.
        others: of the same, by another bundle.
        temperature: of the probabilities that are compared.
    """
    found = []
    for one, other in zip(scores, others, strict=True):
        probabilities, judged = probabilities_of(np.asarray(one), temperature), np.asarray(other)
        apart = probabilities[:, None] - probabilities
        found.append(float(np.where(judged[:, None] <= judged, apart, 0.0).max()))
    return np.array(found)


@dataclass(frozen=True)
class Times:
    """Milliseconds of Q questions whose images were encoded before, and whose prompts the kv cache did not hold.

    Attributes:
        closed: (Q,) of the closed questions.
        generated: (Q,) of the same, answered by generating text.
    """

    closed: np.ndarray
    generated: np.ndarray


def time_both(session: Session, asked: Sequence[Asked], conv_mode: str | None) -> Times:
    """Times closed questions against generated answers: each question in both ways, in turn the one or the other first.

    Before each, a question without image takes the kv cache: what is reused is the template's beginning.

    Args:
        session: answers the questions.
        asked: all of them.
        conv_mode: the conversation template; None for the model's own.
    """
    times = np.zeros((2, len(asked)))
    for number, one in enumerate(asked):
        question, pixels = one.closed.question, pixels_of(one.closed.question, session.config)
        session.choose(question.text, one.closed.choices, pixels, conv_mode=conv_mode)  # encodes the image
        for way in (number % 2, 1 - number % 2):
            "".join(session.chat("And now?", conv_mode=conv_mode, max_new_tokens=1))
            begin = time.perf_counter()
            if way == 0:
                session.choose(question.text, one.closed.choices, pixels, conv_mode=conv_mode)
            else:
                "".join(session.chat(question.text, pixels, conv_mode=conv_mode))
            times[way, number] = (time.perf_counter() - begin) * 1e3
    return Times(*times)


def of_different_images(asked: Sequence[Asked], count: int) -> list[Asked]:
    """Returns the first questions about different things, from all benchmarks alike.

    Args:
        asked: all questions.
        count: how many at most.
    """
    first = {(one.task, one.closed.group): one for one in reversed(asked)}
    by_task: dict[str, list[Asked]] = {}
    for one in reversed(first.values()):
        by_task.setdefault(one.task, []).append(one)
    each = -(-count // len(by_task))
    return [one for own in by_task.values() for one in own[:each]][:count]
