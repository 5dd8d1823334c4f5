"""Questions for one of several texts, named by its colour, its place, or the shape that it is in, under or beside."""

from __future__ import annotations

import random

from ..wordings.grammar import cap, expand
from ..wordings.rewording import said
from ..wordings.several_texts import (
    ALL,
    CHECK,
    COLORED,
    EVERYTHING,
    FRONT,
    HOW_MANY,
    LARGER,
    MOST,
    PRESENT,
    READ,
    SIDES,
    TEXT_COLOR,
    WHICH_READ,
)
from ..world.facts import NUMBER_WORDS
from ..world.scenes import COLORS, Scene
from ..world.writings import Writing, in_order, places, things_at, writings
from .checks import another_word, misread
from .question import Question, others, yes_no


def several_texts(scene: Scene, rng: random.Random) -> list[Question]:
    """Returns questions for each text by its names, for all together, for their number and for the larger number.

    Args:
        scene: what the image shows.
        rng: source of randomness.
    """
    written = writings(scene)
    found = []
    for one in written:
        named = places(written, one) + things_at(scene, one)
        if one.color and [w.color for w in written].count(one.color) == 1:
            if not any(w.inside and w.inside.color == one.color for w in written):
                named += [("color", one.color)] * 2
        if len(written) > 1 and [w.kind for w in written].count(one.kind) == 1:
            named += [("alone", "")]
        if named:
            found += [_read(one, *name, rng) for name in rng.sample(named, min(2, len(named)))]
            found += _check(written, one, *rng.choice(named), rng)
        if one.color and len(written) > 1:
            found.append(_color(one, one.color, [name for name in named if name[0] != "color"], rng))
    return found + _together(written, rng) + _numbers(written, rng)


def _named(one: Writing, how: str, what: str, rng: random.Random) -> tuple[str, str | None]:
    """Name of a text with its article, and its place if the name tells that."""
    kind = one.kind if rng.random() < 0.85 else "text"
    if kind == "text" and how in ("side", "most", "ordinal", "alone"):
        kind = one.kind
    if how == "color":
        return f"the {what} {kind}", None
    if how == "ordinal":
        return f"the {what} {kind}", None
    if how == "alone":
        return f"the {one.kind}", None
    if how == "most":
        return f"the {expand(MOST[what], rng)} {kind}", None
    if how == "in":
        where = f"{rng.choice(['in', 'inside', 'on', 'within', 'in'])} the {what}"
    elif how == "side":
        where = expand(SIDES[what], rng)
        if rng.random() < 0.4:
            return f"the {expand(FRONT[what], rng)} {kind}", None
    else:
        near = {"left": "[left of|to the left of|beside|next to]", "right": "[right of|to the right of|beside|next to]"}
        near |= {"above": "[above|over]", "below": "[under|below|beneath|underneath]"}
        where = f"{expand(near[how], rng)} the {what}"
    return f"the {kind} {where}", where


def _read(one: Writing, how: str, what: str, rng: random.Random) -> Question:
    the, where = _named(one, how, what, rng)
    words = {"the": the, "the_cap": cap(the), "kind": one.kind}
    text = said(READ, rng, **words)
    if where and rng.random() < 0.6:
        text = said(WHICH_READ, rng, where=where, kind=one.kind)
    if how == "color" and rng.random() < 0.3:
        text = said(COLORED, rng, color=what, kind=one.kind)
    return Question(one.kind, text, one.text, f"{cap(the)} is {one.text}.", (), one.text)


def _check(written: list[Writing], one: Writing, how: str, what: str, rng: random.Random) -> list[Question]:
    """Claim about one text; a false one says what another text says, a misreading or something else."""
    the, _ = _named(one, how, what, rng)
    truth = rng.random() < 0.5
    claimed = one.text
    if not truth:
        beside = [w.text for w in written if w.kind == one.kind and w.text != one.text]
        claimed = rng.choice(beside) if beside and rng.random() < 0.35 else _false(one, rng)
    words = {"the": the, "the_cap": cap(the), "text": claimed}
    statement = f"{the} is {one.text}"
    found = [yes_no(one.kind, said(CHECK, rng, **words), truth, statement, statement, one.text)]
    if len(written) > 1 and (truth or not any(claimed in w.text for w in written)):
        text = said(PRESENT, rng, kind=one.kind, kinds=f"{one.kind}s", text=claimed)
        yes, no = f"the {one.kind} {claimed} is there", f"the {one.kind} {claimed} is not there"
        found.append(yes_no(one.kind, text, truth, yes, no, claimed))
    return rng.sample(found, 1)


def _false(one: Writing, rng: random.Random) -> str:
    return misread(one.text, rng) if one.kind == "number" else another_word(one.text, rng)


def _color(one: Writing, color: str, named: list[tuple[str, str]], rng: random.Random) -> Question:
    """Question for the colour of a text, named by what it says or by its place."""
    the = rng.choice([f"the {one.kind} {one.text}", one.text, f'"{one.text}"'])
    if named and rng.random() < 0.5:
        the = _named(one, *rng.choice(named), rng)[0]
    text = said(TEXT_COLOR, rng, the=the, the_cap=cap(the))
    wrong = others(COLORS, color, rng)
    return Question("color", text, color, f"{cap(the)} is {color}.", wrong, one.text)


def _together(written: list[Writing], rng: random.Random) -> list[Question]:
    """Questions for the number of texts, and for all of them in reading order."""
    found = []
    for kind in ("number", "word"):
        some = [w for w in written if w.kind == kind]
        if written and rng.random() < (0.5 if len(some) > 1 else 0.2):
            n = len(some)
            long = f"There {'is' if n == 1 else 'are'} {n or 'no'} {kind}{'' if n == 1 else 's'}."
            wrong = tuple(str(i) for i in rng.sample([i for i in range(5) if i != n], 3))
            text = said(HOW_MANY, rng, kinds=f"{kind}s")
            found.append(Question("count", text, str(n), long, wrong, f"how many {kind}s"))
        order = in_order(some) if len(some) in (2, 3) else None
        if order:
            text = said(ALL, rng, kinds=f"{kind}s", many=NUMBER_WORDS[len(some)])
            found.append(_listed(kind, text, order, f"The {kind}s are"))
    order = in_order(written) if len(written) == 2 else None
    if order:
        kind = "number" if all(w.kind == "number" for w in order) else "word"
        found.append(_listed(kind, said(EVERYTHING, rng), order, "It says"))
    return found


def _listed(kind: str, text: str, order: list[Writing], start: str) -> Question:
    texts = [w.text for w in order]
    answer = ", ".join(texts[:-1]) + f" and {texts[-1]}"
    return Question(kind, text, answer, f"{start} {answer}.", (), "|".join(texts))


def _numbers(written: list[Writing], rng: random.Random) -> list[Question]:
    """Question for the larger or smaller number, unless the smaller one is printed larger."""
    some = sorted((w for w in written if w.kind == "number"), key=lambda w: int(w.text))
    if len(some) != 2 or int(some[0].text) == int(some[1].text) or some[0].height > 1.1 * some[1].height:
        return []
    more = rng.choice(["larger", "greater", "bigger", "smaller", "smaller"])
    one = some[0] if more == "smaller" else some[1]
    text, parts = said(LARGER, rng, more=more), "|".join(w.text for w in some)
    return [Question("number", text, one.text, f"The {more} number is {one.text}.", (), parts)]
