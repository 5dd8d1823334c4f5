"""Answers the demo's questions by reading their words and looking into the scene, without the code that made them."""

from __future__ import annotations

import re

from mobilevlm.train.demo.world.scenes import COLORS, SHAPES, Chart, Scene, Text, Thing

SAID = {"grey": "gray", "violet": "purple", "ellipse": "oval", "rhombus": "diamond", "plus sign": "cross"}
SAID |= {"colour": "color", "larger": "bigger"}
NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
COLOR, SHAPE, ANY = "|".join(COLORS), "|".join(SHAPES), ("shape", "object", "thing", "figure", "one")
NAMED = re.compile(rf"(?:\b({COLOR}) )?\b({SHAPE}|{'|'.join(ANY)})(?:e?s)?\b")
# Something definite: "the red star", "the object on the left", but neither "the shape of" it nor "on the left of" it.
THE = re.compile(rf"\bthe {NAMED.pattern}(?! of\b)(?: (?:at|on) the (top|bottom|left|right)\b(?! side| of))?")
AXES = {"left": (-1, 0), "right": (1, 0)} | dict.fromkeys(("above", "over", "higher"), (0, -1))
AXES |= dict.fromkeys(("below", "under", "beneath", "lower"), (0, 1))
SIDE = re.compile(rf"\b({'|'.join(AXES)})\b")
WRITING = re.compile(r"\b(number(?! of)|digits|word|text|printed|written|read)\b|\bdoes .*\bsay\b")
CONFIRM = re.compile(r"is |does |can you read the \w+ \w")  # rather than read aloud


def holds(scene: Scene, question: str, answer: str) -> bool:
    """Whether an answer, in small letters, is the right one. Fails where a question has no single meaning."""
    text = question.lower()
    for other, name in SAID.items():
        text = text.replace(other, name)
    things = [_meant(scene, match) for match in THE.finditer(text)]
    written = [*scene.texts, *(thing for thing in scene.things if thing.text)]
    if answer in ("yes", "no") and not (written and WRITING.search(text) and not CONFIRM.match(text)):
        return _true(scene, text, things) == (answer == "yes")
    if "background" in text or "behind" in text:
        return answer == scene.background
    if scene.chart:
        return _shown(scene.chart, text, answer)
    if scene.texts or written and WRITING.search(text):
        (it,) = written
        if "color" in text:
            return answer == it.color
        return answer == (_place(scene, it) if re.search("where|position|part", text) else it.text.lower())
    if answer.isdigit():
        return int(answer) == len(_called(scene, *NAMED.search(text).groups()))
    if "bigger" in text or "smaller" in text:
        most = (max if "bigger" in text else min)(things, key=lambda group: group[0].radius)
        return most == _meant(scene, THE.match(f"the {answer}"))
    if answer in AXES and len(things) == 2:
        (one,), (other,) = reversed(things) if re.match("on which side|in which direction", text) else things
        offset = one.x - other.x, one.y - other.y
        return sum(a * b for a, b in zip(offset, AXES[answer], strict=True)) == max(map(abs, offset))
    if answer in SHAPES and not things:
        return [answer] == [thing.shape for thing in _called(scene, re.search(COLOR, text)[0], "one")]
    ((thing,),) = things
    if side := SIDE.search(THE.sub("", text)):
        if " " in answer and answer.split()[0] in COLORS:
            lying = [other for other in scene.things if other is not thing and _lies(other, side[0], thing)]
            return [answer] == [f"{other.color} {other.shape}" for other in lying]
    if answer in COLORS or answer in SHAPES:
        return answer in (thing.color, thing.shape)
    if answer in ("big", "small"):
        return (thing.radius > 0.15) == (answer == "big")
    assert re.search("where|position|part", text), question
    return answer == _place(scene, thing)


def _true(scene: Scene, text: str, things: list[list[Thing]]) -> bool:
    """Whether what is asked to be confirmed is so."""
    if scene.texts:
        return scene.texts[0].text.lower() in re.findall(r"\w+", text)
    if len(things) == 2:
        (one,), (other,) = things
        if "bigger" in text or "smaller" in text:
            return (one.radius > other.radius) == ("bigger" in text)
        between = text[next(THE.finditer(text)).end() : list(THE.finditer(text))[1].start()]
        return _lies(one, SIDE.search(between)[0], other)
    if things:
        ((thing,),) = things
        after = text[THE.search(text).end() :]
        if said := re.search(rf"\ban? ({SHAPE})\b", after):
            return thing.shape == said[1]
        return thing.color == re.search(COLOR, after)[0]
    found = _called(scene, *re.search(rf"(?:\b({COLOR}) )?\b({SHAPE})", text).groups())
    number = re.search(rf"\b(\d|{'|'.join(NUMBERS)})\b", text)
    return len(found) == (NUMBERS.get(number[0]) or int(number[0])) if number else bool(found)


def compared(scene: Scene, question: str) -> frozenset[int] | None:
    """The two things whose places a question compares, by their number in the scene; None if it does not."""
    text = question.lower()
    for other, name in SAID.items():
        text = text.replace(other, name)
    matches = list(THE.finditer(text))
    if len(matches) != 2 or "bigger" in text or "smaller" in text:
        return None
    return frozenset(scene.things.index(thing) for match in matches for thing in _meant(scene, match))


def _meant(scene: Scene, match: re.Match) -> list[Thing]:
    """What a definite name may mean."""
    color, noun, place = match.groups()
    things = _called(scene, color, noun)
    by = {"top": lambda t: t.y, "bottom": lambda t: -t.y, "left": lambda t: t.x, "right": lambda t: -t.x}
    assert not place or len(things) == len(set(map(by[place], things))), "nothing says where things are"
    return [min(things, key=by[place])] if place else things


def _called(scene: Scene, color: str | None, noun: str) -> list[Thing]:
    return [t for t in scene.things if (not color or t.color == color) and (noun in ANY or t.shape == noun)]


def _lies(one: Thing, side: str, other: Thing) -> bool:
    """Clearly on that side, by as much of the shorter edge as the demo asks for."""
    return (one.x - other.x) * AXES[side][0] + (one.y - other.y) * AXES[side][1] >= 0.12


def _place(scene: Scene, it: Thing | Text) -> str:
    x, y = it.x / scene.width, it.y / scene.height
    across = "left" if x < 0.35 else "right" if x > 0.65 else ""
    along = "top" if y < 0.35 else "bottom" if y > 0.65 else ""
    return f"{along} {across}".strip() or "center"


def _shown(chart: Chart, text: str, answer: str) -> bool:
    if answer.endswith("chart"):
        return answer == f"{chart.kind} chart"
    if answer.isdigit():
        return int(answer) == len(chart.colors)
    most = max if re.search("tallest|highest|largest|biggest", text) else min
    return answer == chart.colors[chart.values.index(most(chart.values))]


def scene_told(context: str) -> Scene:
    """The scene as far as a description has it, with everything in one place."""
    text = context[0].lower() + re.sub(r"\. ([A-Z])", lambda match: f". {match[1].lower()}", context[1:])
    background = re.search(rf"background is ({COLOR})", text)
    scene = Scene(1, 1, background[1] if background else "pale", "plain")
    for number, color, shape in re.findall(rf"\b(an?|one|{'|'.join(NUMBERS)}) ({COLOR}) ({SHAPE})(?!\w* with)", text):
        scene.things += [Thing(shape, color, 0, 0, 0.1) for _ in range(NUMBERS.get(number, 1))]
    for color, shape, written in re.findall(rf'({COLOR}) ({SHAPE}) with "(.*?)" on it', text):
        _called(scene, color, shape)[0].text = written
    scene.texts += [Text(said, color, 0, 0, 0.1) for said, color in re.findall(rf'the \w+ "(.*?)" in ({COLOR})', text)]
    if chart := re.search(r"(bar|pie) chart with \d parts: ([^.]*)\.", text):
        colors = re.findall(COLOR, chart[2])
        values = {re.search(rf"largest part is ({COLOR})", text)[1]: 3.0}
        values[re.search(rf"smallest part is ({COLOR})", text)[1]] = 1.0
        scene.chart = Chart(chart[1], colors, [values.get(color, 2.0) for color in colors])
    return scene
