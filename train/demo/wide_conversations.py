"""Rows of LLaVA-style JSON about wide scenes: questions in many wordings, with many requests for a short answer."""

from __future__ import annotations

import random

from .conversations import image_row, lettered
from .questions.question import Question
from .questions.wide import wide_questions
from .wordings.phrases import SHORT_ANSWER
from .world.scenes import Scene

MOST_TURNS = 7
# Weight of a kind's questions, 1 where not named: more for what a model learns badly from usual scenes.
WEIGHTS = {
    **{"number": 10.0, "word": 6.0, "count": 5.0, "shape": 3.0, "color": 2.0, "ends": 6.0, "relation": 2.5},
    **{"compare": 2.0, "place": 0.8, "existence": 0.4, "chart": 1.0, "size": 0.25, "describe": 0.25},
}
YES_OR_NO = (
    *("\nPlease answer yes or no.", " Please answer yes or no.", " Answer yes or no.", " (yes or no)", " Yes or no?"),
    *(" Reply with yes or no.", "\nAnswer with yes or no only.", " Just say yes or no."),
)
IN_A_WORD = (
    *(" Answer with one word.", "\nAnswer in one word.", " (one word)", " One word, please.", " Reply with one word."),
    *("\nAnswer in one word or number.", " Give a one-word answer.", "\nShort answer.", " Answer briefly."),
    *("\nAnswer with a single word or number.", " Just the answer.", " Answer:", "\nAnswer with a single word."),
)
IN_A_PHRASE = (" Answer briefly.", "\nShort answer.", " Just the answer.", "\nGive a short answer.", " Keep it short.")


def wide_row(scene: Scene, image: str, rng: random.Random) -> dict | None:
    """Returns a row for the `v1` template: a few questions about an image; None where there is nothing to ask.

    Args:
        scene: what the image shows.
        image: file name of the image.
        rng: source of randomness.
    """
    asked = sorted(wide_questions(scene, rng), key=lambda q: rng.random() ** (1 / WEIGHTS[q.kind]), reverse=True)
    turns = unspoilt(asked, rng.randint(1, MOST_TURNS), rng)
    return image_row(image, turns) if turns else None


def unspoilt(asked: list[Question], most: int, rng: random.Random) -> list[tuple[str, str]]:
    """Returns turns whose answers no earlier turn tells.

    A question may be about several facts, as the two numbers of a list are. What stands at an end and what is left of
    what follow from each other, so a row asks for one of them only.

    Args:
        asked: questions, in the order in which they are taken.
        most: number of turns at most.
        rng: source of randomness.
    """
    turns: list[tuple[str, str]] = []
    known: set[str] = set()
    ordered = ""
    for question in asked:
        said = " ".join(text for turn in turns for text in turn).lower()
        abouts = set(filter(None, question.about.lower().split("|")))
        order = {"ends": "ends", "relation": "sides", "compare": "sides", "place": "sides"}.get(question.kind, "")
        if len(turns) == most or abouts & known or any(about in said for about in abouts):
            continue
        if order and ordered and order != ordered:
            continue
        turns.append(worded(question, rng))
        known |= abouts
        ordered = ordered or order
    return turns


def worded(question: Question, rng: random.Random) -> tuple[str, str]:
    """Returns a question as a person or a benchmark words it, and the answer that this wording asks for.

    Args:
        question: the question with its answers.
        rng: source of randomness.
    """
    style, text, short = rng.random(), question.text, question.short
    if question.kind == "describe":
        return text, question.long
    if len(question.wrong) > 1 and style < 0.07:
        return lettered(question, rng)
    if short in ("Yes", "No") and style < 0.18:
        return text + rng.choice(YES_OR_NO), short
    if style < 0.45:
        return f"{text}\n{SHORT_ANSWER}", short
    if style < 0.58:
        return text + rng.choice(IN_A_PHRASE if " " in short else IN_A_WORD), short
    return text, question.long
