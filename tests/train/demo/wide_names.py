"""What the names in a wide question mean: things by colour, shape and place, texts by all these and by what they say.

A name has to fit one thing by a margin: `meant` and `text_meant` fail where two would do or where it is a close call.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from mobilevlm.train.demo.world.scenes import COLORS, SHAPES, Scene, Thing

MARGIN = 0.1  # of the picture's shorter edge, by which one thing is further to a side than another
COLOR, SHAPE = "|".join(COLORS), "|".join(SHAPES)
NOUN = "shape|object|thing|figure|one|item|symbol|form|element"
TEXT = "number|word|text"
SIDE = {"left": (-1, 0), "right": (1, 0)}
SIDE |= dict.fromkeys(("above", "over", "top", "upper", "highest", "uppermost", "higher", "up"), (0, -1))
SIDE |= dict.fromkeys(("below", "under", "beneath", "underneath", "bottom", "lower", "lowest", "lowermost"), (0, 1))
SIDE["down"] = (0, 1)
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")
_FRONT = rf"{'|'.join(ORDINALS)}|leftmost|rightmost|topmost|bottommost|uppermost|lowermost|highest|lowest|middle"
_END = r"(?:far |very |extreme )?(?:left|right|top|bottom)(?:-hand)?"
_TAIL = (
    rf"(?:on|at) the {_END}(?: end| edge| side)?(?! of| side of|-hand)"
    r"|(?:furthest|farthest|most) (?:to the )?(?:left|right|up|down)|(?:highest|lowest) (?:up|down)"
    r"|(?:nearest|closest) to the (?:top|bottom)|(?:right )?in the middle(?: of the \w+)?"
    r"|(?:in )?between the (?:others|other ones)|(?:counting )?from (?:the )?(?:left|right|top|bottom)"
)
THING = re.compile(
    rf"\bthe (?:(?P<front>{_FRONT}) )?(?:(?P<color>{COLOR}) )?(?:(?P<noun>{SHAPE}|{NOUN})\b)?(?: ?(?P<tail>{_TAIL})\b)?"
)
FRONT_OF_TEXT = (
    rf"{COLOR}|{'|'.join(ORDINALS)}|leftmost|rightmost|topmost|uppermost|lowest|bottommost"
    r"|(?:left|right)(?:-hand)?|upper|top|bottom|lower"
)


@dataclass(frozen=True)
class Written:
    """A text, free in a colour or inside of a thing."""

    text: str
    x: float
    y: float
    height: float
    color: str | None
    inside: Thing | None

    @property
    def kind(self) -> str:
        return "number" if self.text.isdigit() else "word"


def all_written(scene: Scene) -> list[Written]:
    free = [Written(t.text, t.x, t.y, t.height, t.color, None) for t in scene.texts]
    return free + [Written(t.text, t.x, t.y, 0.5 * t.radius, None, t) for t in scene.things if t.text]


def names_in(text: str) -> list[re.Match]:
    """Definite names of things; neither `the shape of` something nor `the shape above` it, nor `the` alone."""
    found = [m for m in THING.finditer(text) if m["noun"] or m["front"] in ORDINALS and m["tail"]]
    bare = rf" (?:of|that is|to the|on the|further|more|between|\w+most|{'|'.join(SIDE)})\b"
    return [
        m
        for m in found
        if m["noun"] not in NOUN.split("|") or m[0] != f"the {m['noun']}" or not re.match(bare, text[m.end() :])
    ]


def meant(scene: Scene, name: re.Match) -> Thing:
    """The one thing that a name fits."""
    front, color, noun, tail = name["front"], name["color"], name["noun"], name["tail"] or ""
    things = [t for t in scene.things if color in (None, t.color) and (noun not in SHAPES or t.shape == noun)]
    loose = noun not in SHAPES and noun not in ("shape", "form")  # writing is an object, too
    if loose and noun and scene.texts:
        assert color and not any(t.color == color for t in scene.texts), f"{name[0]}: a text, too"
    if not front and not tail:
        assert len(things) == 1, f"{name[0]}: {len(things)} things"
        return things[0]
    if front in ORDINALS:
        order = in_line(things, tail.split()[-1])
        assert order, f"{name[0]}: no row"
        assert noun or not in_the_way(scene, order, tail.split()[-1]), f"{name[0]}: a text of the row counts, too"
        return order[ORDINALS.index(front)]
    if front == "middle" or "middle" in tail or "between" in tail:
        return middle(things, tail.split(" ")[-1])
    return furthest(things, side_in(front or tail))


def side_in(words: str) -> str:
    """The side that words speak of."""
    words = re.sub(r"\b(right )(?=in)|most$", "", words)
    return next(word for word in reversed(re.findall(r"[a-z]+", words)) if word in SIDE)


def along(side: str) -> Callable:
    """How far something lies to a side."""
    dx, dy = SIDE[side]
    return lambda it: it.x * dx + it.y * dy


def furthest(things: list, side: str):
    """The thing that is further to a side than all others, by its middle and, where things differ in size, its edge."""
    assert len(things) > 1
    order = sorted(things, key=along(side))
    assert along(side)(order[-1]) - along(side)(order[-2]) > MARGIN, f"{side}: a close call"
    return order[-1]


def middle(things: list[Thing], line: str = "") -> Thing:
    """The one with as many on either side of it, in a row or in a column."""
    found = [in_line(things, side) for side in ("left", "top") if (line != "column" or side == "top")]
    found = [order for order in found if order and not (line == "row" and order is in_line(things, "top"))]
    assert len(found) == 1 and len(things) % 2 and len(things) > 2, "no middle"
    return found[0][len(things) // 2]


def in_line(things: list, end: str) -> list | None:
    """Things in order from an end, if they stand in a line that leads there."""
    order = sorted(things, key=along(end), reverse=True)
    ats, asides = (
        [along(end)(t) for t in order],
        [along("top" if end in ("left", "right") else "left")(t) for t in order],
    )
    apart = all(a - b > MARGIN for a, b in zip(ats, ats[1:], strict=False))
    return order if apart and max(asides) - min(asides) < MARGIN else None


def in_the_way(scene: Scene, order: list[Thing], end: str) -> bool:
    """Whether a text stands in the same line as things do."""
    aside = along("top" if end in ("left", "right") else "left")
    return any(abs(aside(text) - aside(order[0])) < MARGIN for text in scene.texts)


def lies(one, side: str, other) -> bool:
    """Clearly on that side."""
    return along(side)(one) - along(side)(other) > MARGIN
