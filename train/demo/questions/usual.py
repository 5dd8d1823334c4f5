"""Questions about usual scenes, of every kind that a scene can answer. A new kind is a function in `KINDS`."""

from __future__ import annotations

import random
from collections.abc import Callable

from ..world.scenes import Scene
from .attributes import color, count, existence, shape, size
from .checks import check
from .question import Question
from .reading import chart, describe, reading
from .relations import place, relation

KINDS: tuple[Callable[[Scene, random.Random], list[Question]], ...] = (
    *(existence, color, shape, count, check, relation, place, size, reading, chart, describe),
)


def questions(scene: Scene, rng: random.Random) -> list[Question]:
    """Returns questions of every kind that the scene can answer, in random order.

    Args:
        scene: what the image shows.
        rng: source of randomness.
    """
    found: list[Question] = []
    for kind in KINDS:
        found += [question for question in kind(scene, rng) if question]
    rng.shuffle(found)
    return found
