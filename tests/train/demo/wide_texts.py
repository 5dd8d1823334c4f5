"""Which text a wide question means: a number or a word by its colour, its place, its neighbour, or what it says."""

from __future__ import annotations

import re

from mobilevlm.train.demo.world.scenes import Scene, Thing
from tests.train.demo.wide_names import (
    COLOR,
    FRONT_OF_TEXT,
    MARGIN,
    ORDINALS,
    Written,
    all_written,
    along,
    furthest,
    lies,
    meant,
    names_in,
    side_in,
)

_PLACE = (
    r"(?:on|at|to) the (?:left|right)(?:-hand)?(?: side)?(?! of| side of)|at the (?:top|bottom)|on top|above|below"
    r"|in the (?:upper|lower) part"
)
_NEAR = (
    r"(?P<near>in|inside|on|within|above|over|under|below|beneath|underneath|beside|next to"
    r"|(?:to the )?(?:left|right) of)"
)
NAME = re.compile(
    rf"\bthe (?:(?P<front>{FRONT_OF_TEXT}) )?(?P<kind>number|word|text|digits|writing)\b"
    rf"(?: (?:{_NEAR} <(?P<thing>\d)>|(?P<place>{_PLACE})\b|(?P<said>(?!<)\w+)))?"
)
ASKED = re.compile(
    rf"\b(?:what|which|the) (?P<kind>number|word|text)\b.*?(?: (?:{_NEAR} <(?P<thing>\d)>|(?P<place>{_PLACE})\b))"
)


def without_names(scene: Scene, text: str) -> tuple[str, list[Thing]]:
    """The question with `<0>` for its first named thing and so on, and these things."""
    things = []
    for name in reversed(names_in(text)):
        things.insert(0, meant(scene, name))
        text = f"{text[: name.start()]}<#>{text[name.end() :]}"
    for number in range(len(things)):
        text = text.replace("<#>", f"<{number}>", 1)
    return text, things


def text_meant(scene: Scene, name: re.Match, things: list[Thing]) -> Written:
    """The one text that a name fits."""
    group = name.groupdict()
    front, said = group.get("front"), group.get("said")
    some = [w for w in all_written(scene) if name["kind"] not in ("number", "word", "digits") or kind(name) == w.kind]
    if said and not front and any(w.text.lower() == said for w in some):
        (it,) = [w for w in some if w.text.lower() == said]
        return it
    if name["thing"]:
        return beside(some, name["near"], things[int(name["thing"])])
    if name["place"]:
        return furthest(some, side_in(name["place"]))
    if front and re.fullmatch(COLOR, front):
        (it,) = [w for w in some if w.color == front or w.inside and w.inside.color == front]
        return it
    if front in ORDINALS:
        return in_reading_order(some)[ORDINALS.index(front)]
    if front:
        return furthest(some, side_in(front.removesuffix("-hand")))
    (it,) = some
    return it


def kind(name: re.Match) -> str:
    return "number" if name["kind"] in ("number", "digits") else "word"


def in_reading_order(some: list[Written]) -> list[Written]:
    """In a row or in a column; fails where they rise or fall so steeply that people would not agree."""
    found = []
    for end, other, most in (("left", "top", 0.7), ("top", "left", 1.5)):
        order = sorted(some, key=along(end), reverse=True)
        pairs = list(zip(order, order[1:], strict=False))
        if all(lies(a, end, b) and not _contrary(a, b, end, other, most) for a, b in pairs):
            found.append(order)
    assert found and all(order == found[0] for order in found), "no reading order"
    return found[0]


def _contrary(one: Written, later: Written, end: str, other: str, most: float) -> bool:
    """Whether the later one comes first in the other direction, by more than `most` times as much."""
    return along(other)(later) - along(other)(one) > most * (along(end)(one) - along(end)(later))


def beside(some: list[Written], near: str, thing: Thing) -> Written:
    """The text in a thing, or the nearest one on a side of it, by a margin; `beside` is left and right."""
    if near in ("in", "inside", "on", "within"):
        (it,) = [w for w in some if w.inside is thing]
        return it
    sides = ("left", "right") if near in ("beside", "next to") else (side_in(near.removesuffix(" of")),)
    at = {w: w.y - thing.y if sides[0] in ("left", "right") else w.x - thing.x for w in some}
    found = [w for w in some if any(lies(w, side, thing) for side in sides) and w.inside is None]
    found = [w for w in found if abs(at[w]) < 0.6 * thing.radius + 0.5 * w.height]
    away = sorted((abs(w.x - thing.x) + abs(w.y - thing.y), w.text) for w in found)
    assert away and (len(away) == 1 or away[1][0] - away[0][0] > MARGIN), f"{near}: {away}"
    return next(w for w in found if w.text == away[0][1])
