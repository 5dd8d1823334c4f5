"""Lessons: rows about one hard thing alone.

On which side a thing is, and which number is written, a small model learns all at once after some hundred steps of
little else; mixed with all other questions it may never learn them.
"""

from __future__ import annotations

import random
from itertools import combinations

from .conversations import image_row, worded
from .questions.checks import is_written
from .questions.relations import is_side, which_side
from .questions.usual import questions
from .wordings.phrases import SHORT_ANSWER
from .world import facts
from .world.scenes import Scene

APART = 0.2  # least distance across of things whose sides are asked for, in units of the shorter edge
MOST_PAIRS, MOST_CLAIMS = 4, 3


def sides_row(scene: Scene, image: str, rng: random.Random) -> dict | None:
    """Returns a row on which of two things is left and which right; None where no two are clearly so.

    Args:
        scene: what the image shows.
        image: file name of the image.
        rng: source of randomness.
    """
    named = [(thing, f"the {name}") for thing in scene.things if (name := facts.name(scene, thing, rng))]
    pairs = [rng.sample(pair, 2) for pair in combinations(named, 2)]
    turns = []
    for (one, name), (other, other_name) in rng.sample(pairs, len(pairs))[:MOST_PAIRS]:
        side = facts.main_side(one, other)
        if side in ("left", "right") and abs(one.x - other.x) > APART:
            question = (which_side if rng.random() < 0.6 else is_side)(side, name, other_name, rng)
            turns.append(worded(question, rng))
    return image_row(image, turns) if turns else None


def writing_row(scene: Scene, image: str, rng: random.Random) -> dict | None:
    """Returns a row that asks whether the image says a text, in one word so that no answer tells it, and at last which.

    Args:
        scene: what the image shows.
        image: file name of the image.
        rng: source of randomness.
    """
    if not scene.texts:
        return None
    text, turns = scene.texts[0].text, []
    for _ in range(rng.randint(0, MOST_CLAIMS)):
        claim = is_written(text, rng.random() < 0.5, rng)
        turns.append((f"{claim.text}\n{SHORT_ANSWER}", claim.short))
        if claim.short == "Yes":
            return image_row(image, turns)
    reading = [question for question in questions(scene, rng) if question.about == text]
    return image_row(image, [*turns, worded(rng.choice(reading), rng)])
