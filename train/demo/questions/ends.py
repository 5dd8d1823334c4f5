"""Questions about things named by their place: the leftmost one, the middle one of a row, the second from the top."""

from __future__ import annotations

import random

from ..wordings.ends import BETWEEN, CHECK, COLOR, NAMES, SHAPE, WHAT, WHERE, WHICH
from ..wordings.grammar import cap, expand
from ..wordings.rewording import said
from ..world import facts
from ..world.facts import CLEARLY, a
from ..world.scenes import COLORS, SHAPES, Scene, Thing
from .question import Question, others, yes_no

# Largest distance across a row that is still called one.
LEVEL = 0.07
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")


def ends(scene: Scene, rng: random.Random) -> list[Question]:
    """Returns questions for colour, shape and identity of things that are named by their place, and claims about them.

    Args:
        scene: what the image shows.
        rng: source of randomness.
    """
    named = [(key, thing) for key, thing in places(scene)]
    found = []
    for key, thing in rng.sample(named, min(4, len(named))):
        found += _asked(scene, key, thing, rng)
    return found + _between(scene, rng)


def places(scene: Scene) -> list[tuple[str, Thing]]:
    """Returns names of places that mean exactly one thing, with that thing: sides, the middle, `second-left`."""
    found = [(side, end) for side in facts.SIDES if (end := extreme(scene, side))]
    for across in (True, False):
        order = sorted(scene.things, key=lambda t: t.x if across else t.y)
        at = [(t.x if across else t.y) for t in order]
        if len(order) < 3 or any(b - a < CLEARLY for a, b in zip(at, at[1:], strict=False)):
            continue
        aside = [(t.y if across else t.x) for t in order]
        if max(aside) - min(aside) < LEVEL:
            if len(order) % 2:
                found.append(("middle", order[len(order) // 2]))
            for side, line in (("left" if across else "above", order), ("right" if across else "below", order[::-1])):
                found += [(f"{ORDINALS[i]}-{side}", thing) for i, thing in enumerate(line[:4])]
    return found


def extreme(scene: Scene, side: str) -> Thing | None:
    """Returns the thing that lies on a side of all others, None if there is none.

    Args:
        scene: what the image shows.
        side: a key of `facts.SIDES`.
    """
    if len(scene.things) < 2:
        return None
    others_of = [(t, [other for other in scene.things if other is not t]) for t in scene.things]
    return next((t for t, rest in others_of if all(_beyond(t, side, other) for other in rest)), None)


def _beyond(one: Thing, side: str, other: Thing) -> bool:
    """Whether a thing lies on that side of the other by its centre and by its edge alike."""
    sign = -1 if side in ("left", "above") else 1
    at, other_at = ((t.x if side in ("left", "right") else t.y) * sign for t in (one, other))
    return side in facts.sides(one, other) and at + one.radius > other_at + other.radius


def _asked(scene: Scene, key: str, thing: Thing, rng: random.Random) -> list[Question]:
    the = f"the {_name(scene, key, rng)}"
    words = {"the": the, "the_cap": cap(the)}
    full, kind = thing.name, "ends"
    color = Question(
        *(kind, said(COLOR, rng, **words), thing.color, f"{cap(the)} is {thing.color}."),
        *(others(COLORS, thing.color, rng), full),
    )
    wrong = others(SHAPES, thing.shape, rng)
    one, other = rng.sample([a(thing.shape), a(wrong[0])], 2)
    text = said(SHAPE, rng, **words, one=one, other=other)
    shape = Question(kind, text, thing.shape, f"{cap(the)} is {a(thing.shape)}.", wrong, full)
    text, long = said(WHICH, rng, **words), f"{cap(the)} is {a(full)}."
    if key in WHERE and not scene.texts and rng.random() < 0.6:
        where = expand(WHERE[key], rng)
        text, long = said(WHAT, rng, where=where), f"{cap(a(full))} is {where}."
    which = Question(kind, text, full, long, (), full)
    truth = rng.random() < 0.5
    claimed, fact = rng.choice([(thing.color, "color"), (thing.shape, "shape")])
    if not truth:
        near = [getattr(t, fact) for t in scene.things if getattr(t, fact) != claimed]
        wrong = others(COLORS if fact == "color" else SHAPES, claimed, rng)
        claimed = rng.choice(near if near and rng.random() < 0.6 else wrong)
    told = claimed if fact == "color" else a(claimed)
    right = thing.color if fact == "color" else a(thing.shape)
    text = said(CHECK, rng, **words, said=told)
    check = yes_no(kind, text, truth, f"{the} is {told}", f"{the} is {right}", full)
    doubtful = not truth and {claimed, thing.shape} <= {"square", "rectangle", "diamond"}
    return rng.choices([[color], [shape], [which], [] if doubtful else [check]], [34, 30, 22, 14])[0]


def _name(scene: Scene, key: str, rng: random.Random) -> str:
    """Name of a thing by its place; where there is writing, only `shape` is sure to mean a shape."""
    nouns = ["shape"] * 4 + ([] if scene.texts else ["object", "thing", "figure", "one", "item", "symbol"])
    noun = rng.choice(nouns)
    if key in NAMES:
        level = len({round(t.y, 1) for t in scene.things}) < len({round(t.x, 1) for t in scene.things})
        return expand(NAMES[key], rng).format(noun=noun, line="row" if level else "column")
    ordinal, side = key.split("-")
    side = {"above": "top", "below": "bottom"}.get(side, side)
    whence = rng.choice([f"from the {side}", f"counting from the {side}", f"from {side}"])
    return f"{ordinal} {noun} {whence}" if rng.random() < 0.7 or scene.texts else f"{ordinal} {whence}"


def _between(scene: Scene, rng: random.Random) -> list[Question]:
    """Question for what stands between two neighbours of a row."""
    middle = [thing for key, thing in places(scene) if key == "middle"]
    if not middle or len(scene.things) != 3 or scene.texts:
        return []
    names = [facts.name(scene, t, rng) for t in scene.things if t is not middle[0]]
    if not all(names) or rng.random() < 0.4:
        return []
    one, other = rng.sample([f"the {name}" for name in names], 2)
    full = middle[0].name
    text = said(BETWEEN, rng, one=one, other=other)
    return [Question("ends", text, full, f"{cap(a(full))} is between {one} and {other}.", (), full)]
