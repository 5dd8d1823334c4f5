"""Lessons: rows about one hard thing alone.

On which side a thing is, and what a number is, a small model learns all at once after some hundred steps of little
else; among all other questions it may wait for that forever.
"""

from __future__ import annotations

import random
from itertools import combinations

from .conversations import picture_row, worded
from .questions.checks import is_written
from .questions.relations import is_side, which_side
from .questions.usual import questions
from .wordings.phrases import SHORT_ANSWER
from .world import facts
from .world.scenes import Scene

APART = 0.2  # of things whose sides are asked about, as a part of the picture's height
MOST_PAIRS, MOST_CLAIMS = 4, 3


def sides_row(scene: Scene, image: str, rng: random.Random) -> dict | None:
    """Which of two things is on the left and which on the right; None where no two are clearly so."""
    named = [(thing, f"the {name}") for thing in scene.things if (name := facts.name(scene, thing, rng))]
    pairs = [rng.sample(pair, 2) for pair in combinations(named, 2)]
    turns = []
    for (one, name), (other, other_name) in rng.sample(pairs, len(pairs))[:MOST_PAIRS]:
        side = facts.main_side(one, other)
        if side in ("left", "right") and abs(one.x - other.x) > APART:
            question = (which_side if rng.random() < 0.6 else is_side)(side, name, other_name, rng)
            turns.append(worded(question, rng))
    return picture_row(image, turns) if turns else None


def writing_row(scene: Scene, image: str, rng: random.Random) -> dict | None:
    """Whether it says this or that, in one word so that no answer tells the text, and at last what it says."""
    if not scene.texts:
        return None
    text, turns = scene.texts[0].text, []
    for _ in range(rng.randint(0, MOST_CLAIMS)):
        claim = is_written(text, rng.random() < 0.5, rng)
        turns.append((f"{claim.text}\n{SHORT_ANSWER}", claim.short))
        if claim.short == "Yes":
            return picture_row(image, turns)
    reading = [question for question in questions(scene, rng) if question.about == text]
    return picture_row(image, [*turns, worded(rng.choice(reading), rng)])
