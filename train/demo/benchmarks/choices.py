"""Multiple-choice questions for ScienceQA and MMBench."""

from __future__ import annotations

import random
import string
from dataclasses import dataclass

from ..questions.question import Question, others
from ..questions.usual import questions
from ..world.scenes import WORDS, Scene
from .rows import confirms, sound

# Asked in turn: "writing" is a number or a word, "check" a question of any kind to be answered by yes or no.
SLOTS = ("color", "shape", "count", "relation", "place", "size", "writing", "chart", "check")
PLACES = tuple("top left,top,top right,left,center,right,bottom left,bottom,bottom right".split(","))


@dataclass(frozen=True)
class Choice:
    """A question and its options, with the index `right` of the right one."""

    question: Question
    options: tuple[str, ...]
    right: int

    @property
    def slot(self) -> str:
        """Kind of the question: one of `SLOTS`, or another kind of the demo's."""
        if confirms(self.question):
            return "check"
        return "writing" if self.question.kind in ("number", "word") else self.question.kind

    @property
    def letter(self) -> str:
        """Letter of the right option."""
        return string.ascii_uppercase[self.right]


def choices(scene: Scene, rng: random.Random) -> list[Choice]:
    """Returns all sound questions about a scene that come with options.

    Args:
        scene: what the image shows.
        rng: source of randomness.
    """
    found = []
    for question in questions(scene, rng):
        wrong = _wrong(question, rng)
        if wrong and sound(scene, question):
            options = rng.sample([question.short, *wrong], 1 + len(wrong))
            found.append(Choice(question, tuple(options), options.index(question.short)))
    return found


def _wrong(question: Question, rng: random.Random) -> tuple[str, ...]:
    """Plausible wrong answers; none where there is nothing natural to offer."""
    if question.wrong:
        return question.wrong
    for pair in (("small", "big"), ("bar chart", "pie chart")):
        if question.short in pair:
            return tuple(option for option in pair if option != question.short)
    if question.kind == "place":  # what is at the top left is on the left, too
        right = set(question.short.split())
        clear = [place for place in PLACES if not (right <= set(place.split()) or set(place.split()) <= right)]
        return others(clear, question.short, rng)
    if question.kind in ("number", "word"):
        return other_writings(question.short, rng)
    return ()


def other_writings(text: str, rng: random.Random) -> tuple[str, ...]:
    """Returns three numbers with as many digits, or three words in the same case.

    Args:
        text: the number or word that is written.
        rng: source of randomness.
    """
    if text.isdigit():
        start = 10 ** (len(text) - 1) if len(text) > 1 else 0
        return tuple(str(n) for n in rng.sample([n for n in range(start, 10 ** len(text)) if n != int(text)], 3))
    style = str.upper if text.isupper() else str.lower if text.islower() else str.capitalize
    return tuple(style(word) for word in others(WORDS, text.lower(), rng))
