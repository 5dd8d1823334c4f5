"""Questions where things are: in the image, and relative to each other."""

from __future__ import annotations

import random
from dataclasses import replace

from ..wordings.grammar import cap
from ..wordings.phrases import ask
from ..world import facts
from ..world.facts import SIDES, a
from ..world.scenes import Scene, Text, Thing
from .question import Question, yes_no

OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}


def relation(scene: Scene, rng: random.Random) -> list[Question]:
    """Returns questions for left, right, above and below: as yes or no, as a side, as what lies there.

    Args:
        scene: what the image shows.
        rng: source of randomness.
    """
    named = [(thing, f"the {name}") for thing in scene.things if (name := facts.name(scene, thing, rng))]
    if len(named) < 2:
        return []
    found = []
    for _ in range(3):
        (one, name), (other, other_name) = rng.sample(named, 2)
        about = " and ".join(sorted((name, other_name)))
        found += [replace(q, about=about) for q in _one_relation(scene, rng, one, name, other, other_name)]
    return found


def _one_relation(
    scene: Scene, rng: random.Random, one: Thing, name: str, other: Thing, other_name: str
) -> list[Question]:
    clear, side = facts.sides(one, other), facts.main_side(one, other)
    found = []
    if clear:
        found.append(is_side(rng.choice(clear), name, other_name, rng))
    if clear and rng.random() < 0.5:
        toward = rng.choice(clear)
        nearer = toward if rng.random() < 0.5 else OPPOSITE[toward]
        answer = name if nearer == toward else other_name
        if toward in ("left", "right"):
            text = ask("further", rng, side=nearer, one=name, other=other_name)
            long = f"{cap(answer)} is further to the {nearer}."
        else:
            word = "higher" if nearer == "above" else "lower"
            text = ask("higher", rng, side=word, one=name, other=other_name)
            long = f"{cap(answer)} is {word}."
        found.append(Question("compare", text, answer.removeprefix("the "), long))
    if side:
        found.append(which_side(side, name, other_name, rng))
        alone = [t for t in scene.things if t is not other and side in facts.sides(t, other)]
        if len(alone) == 1:
            full = f"{one.color} {one.shape}"
            text = ask("what_side", rng, side=_side_words(side, rng), other=other_name)
            found.append(Question("relation", text, full, f"{cap(a(full))} is {SIDES[side]} {other_name}.", ()))
    return found


def is_side(side: str, name: str, other: str, rng: random.Random) -> Question:
    """Returns the question whether `name` is on a side of `other`: its own side, or the opposite one.

    Args:
        side: the side on which it is, a key of `facts.SIDES`.
        name: name of a thing, with its article.
        other: name of the other thing, with its article.
        rng: source of randomness.
    """
    truth = rng.random() < 0.5
    asked = side if truth else OPPOSITE[side]
    text = ask("is_side", rng, one=name, one_cap=cap(name), side=_side_words(asked, rng), other=other)
    yes, no = f"{name} is {SIDES[asked]} {other}", f"{name} is {SIDES[OPPOSITE[asked]]} {other}"
    return yes_no("relation", text, truth, yes, no)


def which_side(side: str, name: str, other: str, rng: random.Random) -> Question:
    """Returns the question on which side of `other` `name` is.

    Args:
        side: the side on which it is, a key of `facts.SIDES`.
        name: name of a thing, with its article.
        other: name of the other thing, with its article.
        rng: source of randomness.
    """
    across = side in ("left", "right")
    choice = rng.choice(["left or right of", "to the left or right of"] if across else ["above or below"])
    text = ask("which_side", rng, one=name, other=other, choice=choice)
    wrong = tuple(key for key in SIDES if key != side)
    return Question("relation", text, side, f"{cap(name)} is {SIDES[side]} {other}.", wrong)


def _side_words(side: str, rng: random.Random) -> str:
    if side in ("left", "right"):
        return rng.choice(
            [f"to the {side} of", f"to the {side} of", f"{side} of", f"on the {side} of", f"on the {side} side of"]
        )
    return rng.choice(
        {
            "above": ["above", "above", "over", "higher than"],
            "below": ["below", "below", "under", "beneath", "lower than"],
        }[side]
    )


def place(scene: Scene, rng: random.Random) -> list[Question]:
    """Returns questions for the place of a thing or text in the image.

    Args:
        scene: what the image shows.
        rng: source of randomness.
    """
    named: list[tuple[str, Thing | Text]]
    named = [(f"the {name}", t) for t in scene.things if (name := facts.name(scene, t, rng))]
    named += [(f"the {'number' if t.text.isdigit() else 'word'}", t) for t in scene.texts]
    found = []
    for name, thing in rng.sample(named, min(2, len(named))):
        where = facts.place(scene, thing.x, thing.y)
        if where:
            text = ask("place", rng, the=name)
            found.append(Question("place", text, where, f"{cap(name)} is {facts.at(where)}.", ()))
    return found
