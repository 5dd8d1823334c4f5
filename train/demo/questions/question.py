"""A question with its answers, and the parts that all kinds of question have in common."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """A question, its short answer, its answer in a sentence, and plausible wrong answers.

    Attributes:
        kind: kind of question, by which answers are counted.
        text: the question as worded.
        short: answer in a word or phrase.
        long: answer in a sentence.
        wrong: other answers that would be plausible.
        about: fact that the question asks for: once that is said, such a question can be answered without the image.
    """

    kind: str
    text: str
    short: str
    long: str
    wrong: tuple[str, ...] = ()
    about: str = ""


def yes_no(kind: str, text: str, truth: bool, statement: str, denial: str, about: str = "") -> Question:
    """Returns a question to be confirmed with a statement or denied with another.

    Args:
        kind: kind of question.
        text: the question as worded.
        truth: whether the answer is yes.
        statement: what follows `Yes, ` in the long answer.
        denial: what follows `No, ` in the long answer.
        about: fact that the question asks for.
    """
    answer = "Yes" if truth else "No"
    wrong = ("No" if truth else "Yes",)
    return Question(kind, text, answer, f"{answer}, {statement if truth else denial}.", wrong, about)


def others(all_names: Collection[str], answer: str, rng: random.Random) -> tuple[str, ...]:
    """Returns three wrong answers.

    Args:
        all_names: all possible answers.
        answer: the right one.
        rng: source of randomness.
    """
    return tuple(rng.sample([name for name in all_names if name != answer], 3))
