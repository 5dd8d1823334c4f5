"""Facts about a scene, in words, from which captions and questions are made."""

from __future__ import annotations

import random
from itertools import combinations

from .scenes import COLORS, Chart, Scene, Thing

NUMBER_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CLEARLY = 0.12  # least distance of centres at which one thing lies left of the other
SIDES = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}


def plural(shape: str) -> str:
    """Plural of a shape's name."""
    return shape + "es" if shape == "cross" else shape + "s"


def a(phrase: str) -> str:
    """Phrase with its indefinite article."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def counted(number: int, shape: str) -> str:
    """Returns a number with its noun: `one red star`, `three stars`.

    Args:
        number: at most 9.
        shape: name of the shape in the singular, perhaps with a colour.
    """
    return f"{NUMBER_WORDS[number]} {shape if number == 1 else plural(shape)}"


def things_called(scene: Scene, shape: str | None = None, color: str | None = None) -> list[Thing]:
    """Returns the things of a shape, of a colour, or of both.

    Args:
        scene: where to look.
        shape: name of the shape; None for any.
        color: name of the colour; None for any.
    """
    return [t for t in scene.things if shape in (None, t.shape) and color in (None, t.color)]


def names(scene: Scene, thing: Thing) -> list[str]:
    """Returns every name of a thing that means no other thing.

    Args:
        scene: the scene that the thing is in.
        thing: what to name.
    """
    found = []
    if len(things_called(scene, thing.shape)) == 1:
        found.append(thing.shape)
    if len(things_called(scene, thing.shape, thing.color)) == 1:
        found.append(f"{thing.color} {thing.shape}")
    if len(things_called(scene, color=thing.color)) == 1:
        found.append(f"{thing.color} shape")
    return found


def name(scene: Scene, thing: Thing, rng: random.Random) -> str | None:
    """Returns a name that tells shape and colour where it can; None if the thing has a double.

    Args:
        scene: the scene that the thing is in.
        thing: what to name.
        rng: source of randomness.
    """
    found = [text for text in names(scene, thing) if not text.endswith(" shape")]
    return rng.choice([found[0], found[-1], found[-1]]) if found else None


def sides(one: Thing, other: Thing) -> list[str]:
    """Returns the sides of the other on which a thing clearly lies: none, one or two of `SIDES`.

    Args:
        one: the thing.
        other: the thing that it is compared with.
    """
    dx, dy = one.x - other.x, one.y - other.y
    across = [] if abs(dx) < CLEARLY else ["left" if dx < 0 else "right"]
    along = [] if abs(dy) < CLEARLY else ["above" if dy < 0 else "below"]
    return across + along


def main_side(one: Thing, other: Thing) -> str | None:
    """Returns the one side on which a thing clearly lies; None where two sides would do.

    Args:
        one: the thing.
        other: the thing that it is compared with.
    """
    dx, dy = one.x - other.x, one.y - other.y
    if max(abs(dx), abs(dy)) < CLEARLY or 0.6 < abs(dx) / (abs(dy) + 1e-6) < 1.7:
        return None
    if abs(dx) > abs(dy):
        return "left" if dx < 0 else "right"
    return "above" if dy < 0 else "below"


def place(scene: Scene, x: float, y: float) -> str | None:
    """Returns the name of a place: `top left`, `center`, ...; None near a border between two places.

    Args:
        scene: gives the image's size.
        x: position from the left, in units of the image's shorter edge.
        y: position from the top, in the same units.
    """
    columns, rows = _third(x / scene.width), _third(y / scene.height)
    if columns is None or rows is None:
        return None
    across, along = ("left", "", "right")[columns], ("top", "", "bottom")[rows]
    return f"{along} {across}".strip() or "center"


def _third(fraction: float) -> int | None:
    return next((i for i, (low, high) in enumerate([(0, 0.3), (0.4, 0.6), (0.7, 1)]) if low <= fraction <= high), None)


def extremes(chart: Chart) -> tuple[str, str]:
    """Returns the colours of a chart's largest and smallest part."""
    parts = sorted(zip(chart.values, chart.colors, strict=True))
    return parts[-1][1], parts[0][1]


def caption(scene: Scene, rng: random.Random, most: int = 6) -> str:
    """Returns some sentences about an image: what there is, how many, where, and what is written.

    Args:
        scene: what the image shows.
        rng: source of randomness.
        most: number of sentences at most.
    """
    sentences = _contents(scene, rng)
    rng.shuffle(sentences)
    detail = _relations(scene, rng) + _looks(scene)
    rng.shuffle(detail)
    chosen = (sentences + detail)[:most]
    return " ".join(sentence[0].upper() + sentence[1:] + "." for sentence in chosen)


def _contents(scene: Scene, rng: random.Random) -> list[str]:
    found = []
    kinds = sorted({(t.shape, t.color) for t in scene.things})
    if kinds:
        rng.shuffle(kinds)
        parts = [counted(len(things_called(scene, *kind)), f"{kind[1]} {kind[0]}") for kind in kinds]
        if all(part.startswith("one ") for part in parts) and rng.random() < 0.7:
            parts = [a(part[4:]) for part in parts]
        found.append(_listed(parts))
    found += [f'the {"number" if t.text.isdigit() else "word"} "{t.text}" in {t.color}' for t in scene.texts]
    found += [f'{a(f"{t.color} {t.shape}")} with "{t.text}" on it' for t in scene.things if t.text]
    if scene.chart:
        colors = scene.chart.colors if scene.chart.kind == "bar" else sorted(scene.chart.colors)
        found.append(f"a {scene.chart.kind} chart with {len(scene.chart.values)} parts: {_listed(colors)}")
    return found


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _relations(scene: Scene, rng: random.Random) -> list[str]:
    found = []
    for one, other in combinations(scene.things, 2):
        pair = [one, other]
        rng.shuffle(pair)
        labels = [name(scene, thing, rng) for thing in pair]
        side = main_side(*pair)
        if side and all(labels):
            found.append(f"the {labels[0]} is {SIDES[side]} the {labels[1]}")
    for thing in scene.things:
        label, where = name(scene, thing, rng), place(scene, thing.x, thing.y)
        if label and where:
            found.append(f"the {label} is {at(where)}")
        if label and thing.size:
            found.append(f"the {label} is {thing.size}")
    for text in scene.texts:
        where = place(scene, text.x, text.y)
        if where:
            found.append(f'"{text.text}" is {at(where)}')
    rng.shuffle(found)
    return found[:4]


def at(where: str) -> str:
    """Place with its preposition and article."""
    return f"{'on' if where in ('left', 'right') else 'at' if where in ('top', 'bottom') else 'in'} the {where}"


def _looks(scene: Scene) -> list[str]:
    found = [f"the background is {scene.background}"] if scene.background in COLORS else []
    shapes = {t.shape for t in scene.things}
    found += [
        f"there {'is' if n == 1 else 'are'} {counted(n, s)}"
        for s in sorted(shapes)
        if (n := len(things_called(scene, s)))
    ]
    if scene.things:
        n = len(scene.things)
        found.append(f"there {'is' if n == 1 else 'are'} {counted(n, 'shape')} in all")
    if scene.chart:
        largest, smallest = extremes(scene.chart)
        found += [f"the largest part is {largest}", f"the smallest part is {smallest}"]
    return found
