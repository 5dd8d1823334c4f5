"""Questions about existence, colour, shape, number and size."""

from __future__ import annotations

import random

from ..wordings.grammar import cap
from ..wordings.phrases import ask
from ..world import facts
from ..world.facts import SIDES, a, plural, things_called
from ..world.scenes import COLORS, SHAPES, Scene, Thing
from .question import Question, others, yes_no


def existence(scene: Scene, rng: random.Random) -> list[Question]:
    """Returns questions whether there is a thing, as many true as false; the false ones are often nearly true.

    Args:
        scene: what the image shows.
        rng: source of randomness.
    """
    found = []
    for _ in range(2):
        truth = rng.random() < 0.5
        pick = _present(scene, rng) if truth else _absent(scene, rng)
        if pick is None:
            continue
        color, shape = pick
        if shape is None and _elsewhere(scene, color):
            continue
        one = " ".join(filter(None, (color, shape or "shape")))
        many = " ".join(filter(None, (color, plural(shape or "shape"))))
        text = ask("existence", rng, thing=a(one), thing_cap=cap(a(one)), things=many)
        if shape is None and color is not None and rng.random() < 0.5:
            text = ask("existence_color", rng, color=color)
        found.append(yes_no("existence", text, truth, f"there is {a(one)}", f"there is no {one}"))
    return found


def _elsewhere(scene: Scene, color: str | None) -> bool:
    """Whether "anything in this colour?" could mean more than shapes: writing, or the ink of outlines and labels."""
    return color in ("black", "gray", "white") or any(written.color == color for written in scene.texts)


def _present(scene: Scene, rng: random.Random) -> tuple[str | None, str | None] | None:
    if not scene.things:
        return None
    thing = rng.choice(scene.things)
    return rng.choice(
        [(thing.color, thing.shape), (thing.color, thing.shape), (None, thing.shape), (thing.color, None)]
    )


def _absent(scene: Scene, rng: random.Random) -> tuple[str | None, str | None] | None:
    shape: str | None = rng.choice(SHAPES)
    color: str | None = rng.choice(list(COLORS))
    near = scene.things and rng.random() < 0.6
    if near and rng.random() < 0.5:
        shape = rng.choice(scene.things).shape
    elif near:
        color = rng.choice(scene.things).color
    elif rng.random() < 0.6:
        color, shape = rng.choice([(None, shape), (color, None)])
    # Nobody tells these apart for certain.
    like = {"square": "rectangle", "rectangle": "square", "diamond": "square"}.get(shape or "")
    doubtful = any(t.shape == like and color in (None, t.color) for t in scene.things) if like else False
    doubtful = doubtful or (
        scene.chart is not None and (color is not None or shape in ("square", "rectangle", "circle"))
    )
    background = color == scene.background and shape is None
    return None if things_called(scene, shape, color) or doubtful or background else (color, shape)


def color(scene: Scene, rng: random.Random) -> list[Question]:
    """Returns questions for the colour of a thing named by its shape or place, of the background, of writing.

    Args:
        scene: what the image shows.
        rng: source of randomness.
    """
    found = []
    for thing in rng.sample(scene.things, min(2, len(scene.things))):
        name = without_color(scene, thing, rng)
        if name:
            text = ask("color", rng, the=f"the {name}", the_cap=f"The {name}")
            wrong = others(COLORS, thing.color, rng)
            found.append(Question("color", text, thing.color, f"The {name} is {thing.color}.", wrong, thing.name))
    if rng.random() < 0.3 and scene.background in COLORS:
        answer = scene.background
        text = ask("background", rng)
        found.append(Question("color", text, answer, f"The background is {answer}.", others(COLORS, answer, rng)))
    for written in scene.texts:
        kind = "number" if written.text.isdigit() else "word"
        text = ask("text_color", rng, kind=kind)
        found.append(
            Question(
                "color", text, written.color, f"The {kind} is {written.color}.", others(COLORS, written.color, rng)
            )
        )
    return found


def without_color(scene: Scene, thing: Thing, rng: random.Random) -> str | None:
    """Returns a name of a thing by its shape or place that does not tell its colour; None if there is none.

    Args:
        scene: what the image shows.
        thing: the thing to name.
        rng: source of randomness.
    """
    found = []
    if len(things_called(scene, thing.shape)) == 1:
        found += [thing.shape] * 3
    if len(scene.things) == 1:
        found += ["shape", "object", thing.shape]
    for side in SIDES:
        if len(scene.things) > 1 and all(t is thing or side in facts.sides(thing, t) for t in scene.things):
            where = {"above": "at the top", "below": "at the bottom"}.get(side, f"on the {side}")
            found.append(f"{rng.choice(['shape', 'object'])} {where}")
    return rng.choice(found) if found else None


def shape(scene: Scene, rng: random.Random) -> list[Question]:
    """Returns questions for the shape of a thing named by its colour or place.

    Args:
        scene: what the image shows.
        rng: source of randomness.
    """
    found = []
    for thing in rng.sample(scene.things, min(2, len(scene.things))):
        options = [name for name in [without_color(scene, thing, rng)] if name and thing.shape not in name]
        if len(things_called(scene, color=thing.color)) == 1:
            options += [f"{thing.color} {rng.choice(['shape', 'object', 'thing', 'one', 'figure'])}"] * 2
        if options:
            name = rng.choice(options)
            text = ask("shape", rng, the=f"the {name}", the_cap=f"The {name}")
            wrong = others(SHAPES, thing.shape, rng)
            found.append(Question("shape", text, thing.shape, f"The {name} is {a(thing.shape)}.", wrong, thing.name))
    return found


def count(scene: Scene, rng: random.Random) -> list[Question]:
    """Returns questions for the number of things of a shape, of a colour, of both, in all; sometimes none.

    Args:
        scene: what the image shows.
        rng: source of randomness.
    """
    if scene.chart:
        kind = "parts" if scene.chart.kind == "bar" else "slices"
        number, noun = len(scene.chart.values), "bars" if scene.chart.kind == "bar" else "slices"
        return [Question("count", ask(kind, rng), str(number), f"There are {number} {noun}.", _numbers(number, rng))]
    if not scene.things:
        return []
    thing = rng.choice(scene.things)
    picks: list[tuple[str | None, str | None]] = [
        (None, thing.shape),
        (None, thing.shape),
        (None, None),
        (thing.color, None),
    ]
    picks += [(thing.color, thing.shape)] + ([(None, rng.choice(SHAPES))] if rng.random() < 0.3 else [])
    found = []
    for color, shape in rng.sample(picks, 2):
        number = len(things_called(scene, shape, color))
        if rng.random() < {1: 0.7, 2: 0.35}.get(number, 0):  # else most answers would be 1
            continue
        noun = " ".join(
            filter(None, (color, plural(shape) if shape else rng.choice(["shapes", "objects", "things", "figures"])))
        )
        one = noun if number != 1 else " ".join(filter(None, (color, shape or "shape")))
        verb = "is" if number == 1 else "are"
        text = ask("count", rng, things=noun)
        long = f"There {verb} {number if number else 'no'} {one}."
        found.append(Question("count", text, str(number), long, _numbers(number, rng), f"how many {noun}"))
    return found


def _numbers(number: int, rng: random.Random) -> tuple[str, ...]:
    return tuple(str(n) for n in rng.sample([n for n in range(8) if n != number], 3))


def size(scene: Scene, rng: random.Random) -> list[Question]:
    """Returns questions how big a thing is, and which of two is bigger.

    Args:
        scene: what the image shows.
        rng: source of randomness.
    """
    found = []
    named = [(t, f"the {name}") for t in scene.things if (name := facts.name(scene, t, rng))]
    for thing, name in rng.sample(named, min(1, len(named))):
        if thing.size:
            found.append(Question("size", ask("size", rng, the=name), thing.size, f"{cap(name)} is {thing.size}.", ()))
    if len(named) >= 2:
        (one, name), (other, other_name) = rng.sample(named, 2)
        ratio = one.radius / other.radius
        if max(ratio, 1 / ratio) > 1.35:
            more, is_more = rng.choice([("bigger", ratio > 1), ("larger", ratio > 1), ("smaller", ratio < 1)])
            answer = name if is_more else other_name
            text = ask("compare", rng, more=more, one=name, other=other_name)
            found.append(Question("size", text, answer.removeprefix("the "), f"{cap(answer)} is {more}.", ()))
            text = ask("is_bigger", rng, more=more, one=name, one_cap=cap(name), other=other_name)
            less = "smaller" if more != "smaller" else "bigger"
            found.append(
                yes_no(
                    "size", text, is_more, f"{name} is {more} than {other_name}", f"{name} is {less} than {other_name}"
                )
            )
    return found
