"""A question with its answers, and the pieces that all kinds of question are made of."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """A question, its answer in a word or phrase and in a sentence, and other answers that would be plausible.

    `about` names the fact it asks after: once that is said, another such question can be answered without the picture.
    """

    kind: str
    text: str
    short: str
    long: str
    wrong: tuple[str, ...] = ()
    about: str = ""


def yes_no(kind: str, text: str, truth: bool, statement: str, denial: str, about: str = "") -> Question:
    """A question to confirm with a statement or to deny with another."""
    answer = "Yes" if truth else "No"
    wrong = ("No" if truth else "Yes",)
    return Question(kind, text, answer, f"{answer}, {statement if truth else denial}.", wrong, about)


def others(all_names: Collection[str], answer: str, rng: random.Random) -> tuple[str, ...]:
    """Three wrong answers."""
    return tuple(rng.sample([name for name in all_names if name != answer], 3))
