"""Texts of a scene, and the places and shapes by which one text can be told from the others."""

from __future__ import annotations

import math
from dataclasses import dataclass

from . import facts
from .scenes import Scene, Thing

APART = 0.15  # least distance, besides 0.3 of both heights, of a text from another that it is left of or above


@dataclass(frozen=True)
class Writing:
    """A text of a scene, free or in a shape: `inside` is that shape, `color` the colour of free letters."""

    text: str
    x: float
    y: float
    height: float
    color: str | None = None
    inside: Thing | None = None

    @property
    def kind(self) -> str:
        """Kind of the text: `number` or `word`."""
        return "number" if self.text.isdigit() else "word"


def writings(scene: Scene) -> list[Writing]:
    """All texts of a scene."""
    free = [Writing(t.text, t.x, t.y, t.height, t.color) for t in scene.texts]
    return free + [Writing(t.text, t.x, t.y, t.radius, None, t) for t in scene.things if t.text]


def places(written: list[Writing], one: Writing) -> list[tuple[str, str]]:
    """Returns the sides on which a text is alone among those of its kind, and its number in reading order.

    Args:
        written: all texts of the scene.
        one: the text.
    """
    rest = [w for w in written if w.kind == one.kind and w is not one]
    if not rest:
        return []
    found = []
    for side in facts.SIDES:
        if all(side in sides(one, other) for other in rest):
            found.append(("side" if len(rest) == 1 else "most", side))
    order = in_order([one, *rest])
    return found + ([("ordinal", ("first", "second", "third")[order.index(one)])] if order and len(order) < 4 else [])


def sides(one: Writing, other: Writing) -> list[str]:
    """Returns the sides of the other on which a text clearly lies.

    Args:
        one: the text.
        other: the text that it is compared with.
    """
    dx, dy, room = one.x - other.x, one.y - other.y, APART + 0.3 * (one.height + other.height)
    across = [] if abs(dx) < room else ["left" if dx < 0 else "right"]
    return across + ([] if abs(dy) < room else ["above" if dy < 0 else "below"])


def in_order(written: list[Writing]) -> list[Writing] | None:
    """Texts from left to right, or top to bottom; None where people would not agree on the order."""
    for along in ("left", "above"):
        order = sorted(written, key=lambda w: w.x if along == "left" else w.y)
        pairs = list(zip(order, order[1:], strict=False))
        if all(along in sides(a, b) and not set(sides(a, b)) & {"right", "below"} for a, b in pairs):
            return order if not any(_steep(a, b, along) for a, b in pairs) else None
    return None


def _steep(one: Writing, later: Writing, along: str) -> bool:
    """Whether the later text is so much higher, or so much further left, that it may be read first."""
    across, down = later.x - one.x, later.y - one.y
    return -down > 0.6 * across if along == "left" else -across > 0.6 * down


def things_at(scene: Scene, one: Writing) -> list[tuple[str, str]]:
    """Returns the shape that a text is in, or the shapes that it is right under, over or beside.

    Args:
        scene: the scene that the text is in.
        one: the text.
    """
    if one.inside:
        name = short_name(scene, one.inside)
        return [("in", name)] * 3 if name else []
    found = []
    rest = [w for w in writings(scene) if w.text != one.text]
    for thing in scene.things:
        side, name = _touches(one, thing), short_name(scene, thing)
        doubles = [w for w in rest if w.kind == one.kind and side and side in sides(w, _as_text(thing))]
        if side and name and not doubles and not any(_rivals(one, w, thing) for w in rest):
            found.append((side, name))
    return found


def _touches(one: Writing, thing: Thing) -> str | None:
    """Side of a thing on which a text stands right at it."""
    half = 0.42 * len(one.text) * one.height
    dx, dy = one.x - thing.x, one.y - thing.y
    if abs(dx) < 0.5 * thing.radius and 0 < abs(dy) - thing.radius < 1.6 * one.height + 0.08:
        return "above" if dy < 0 else "below"
    if abs(dy) < 0.5 * thing.radius and 0 < abs(dx) - thing.radius < half + 0.25:
        return "left" if dx < 0 else "right"
    return None


def _rivals(one: Writing, other: Writing, thing: Thing) -> bool:
    """Whether another text is about as near to a thing on the same side; `beside` is both left and right."""
    level, other_level = (abs(w.x - thing.x) > abs(w.y - thing.y) for w in (one, other))
    far, other_far = (math.hypot(w.x - thing.x, w.y - thing.y) for w in (one, other))
    same = level or (one.y < thing.y) == (other.y < thing.y)
    return level == other_level and same and other_far < 1.5 * far


def _as_text(thing: Thing) -> Writing:
    return Writing("0", thing.x, thing.y, thing.radius)


def short_name(scene: Scene, thing: Thing) -> str | None:
    """Returns the shortest name that means one shape; None if the thing has a double.

    Args:
        scene: the scene that the thing is in.
        thing: what to name.
    """
    found = [name for name in facts.names(scene, thing) if not name.endswith(" shape")]
    return found[0] if found else None
