"""Answers wide questions by reading their words and looking into the scene, without the code that made them.

`holds` fails where a question has no single meaning: where a name fits two things, or where it is a close call.
"""

from __future__ import annotations

import re

from mobilevlm.train.demo.world.scenes import COLORS, SHAPES, WORDS, Chart, Scene, Thing
from tests.train.demo.wide_names import COLOR, SHAPE, SIDE, THING, all_written, furthest, lies, meant, middle, side_in
from tests.train.demo.wide_texts import ASKED, NAME, in_reading_order, text_meant, without_names

GREETING = re.compile(
    r"^(?:hello|hi|hey|question|q|quick one|quick question|please|ok|so|and now|look at the picture)[,:.!] ",
    re.IGNORECASE,
)
PICTURE = r"(?:picture|image|drawing|photo|figure|canvas|graphic|scene)"
PLACED = r" (?:on|at|in the|in between|most|right in|between|furthest|farthest|highest|lowest|nearest|closest)\b"
SAID = {"grey": "gray", "violet": "purple", "ellipse": "oval", "rhombuses": "diamonds", "rhombus": "diamond"}
SAID |= {
    "plus signs": "crosses",
    "plus sign": "cross",
    "six-sided shape": "hexagon",
    "larger": "bigger",
    "largest": "biggest",
}
SAID |= {"greater": "bigger", "large": "big", "coloured": "colored", "show up": "appear"} | dict.fromkeys(
    ("colour", "hue", "tint"), "color"
)
SAID |= {f"{side}-most": f"{side}most" for side in ("left", "right", "top", "bottom")}
TAIL = re.compile(
    r"[,:.] (?:true|is that right|correct|yes or no|true or not|is that so|am i right|right|yes|or not|isn't there)$"
)
CLAIM = re.compile(r"\bis it (?:true|right|correct|the case) that\b|\bwould it be right to say\b|^say\b|^let me know\b")
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LINES = (
    r"anything (?:is )?(?:to read|written)|(?:any|some) (?:text|writing|words or numbers)|(?:contain|show|have) text"
    r"|word or a number|number or a word|text or number|label|letters or digits|words or numbers|characters"
    r"|(?:contain|have|show) writing"
)
OTHER_THAN_TEXT = (
    r"^(?!.*\b(?:which|what|the) (?:word|number) (?:has|is (?:written|printed|shown|drawn)))(?=.*(?:color|shape|<1>))"
)
POLAR = re.compile(
    r"(?!can you read the \w+$)(?:is|are|does|do|did|can|could you see|could you find|would|has|was|any|there|an?|my"
    r"|some(?:one|body)|i|it|confirm|look for|looking at)\b|(?!.*\byou read\b).*\b(?:true|correct|right|so|not)$"
    r"|.*\b(?:if|whether)\b|.*: \w+$"
)
HOW_MANY = re.compile(r"how many|number of|count|quantity|total|amount|tally|enumerate|of .*, what number are|- number")
BESIDE = re.compile(rf"\b({'|'.join(SIDE)})\b")


def plain(question: str) -> str:
    """In small letters, without greetings and mention of the picture, each thing by one word."""
    text = GREETING.sub("", question.lower()).rstrip("?.: ")
    text = re.sub(r", please$", "", text)
    for other, name in SAID.items():
        text = re.sub(rf"\b{other}(?=s?\b)", name, text)
    text = re.sub(rf"\b(?:in|on|of) (?:the|this) {PICTURE}\b(?!{PLACED})|\bin there\b", "", text)
    text = re.sub(rf"\bthe figure\b(?!{PLACED})", "the picture", text)
    text = re.sub(
        rf"^(?=(?:{COLOR}|{SHAPE}|shape|object)\b.* color$)|(?<=^color of )(?!the)|(?<=^color for )(?!the)",
        "the ",
        text,
    )
    return re.sub(r"\s+", " ", re.sub(r"\s+([,.:])", r"\1", text)).strip().rstrip("?.:, ")


def holds(scene: Scene, question: str, answer: str) -> bool:
    """Whether a short answer is the right one."""
    text, answer = plain(question), answer.lower()
    texts = {w.text.lower() for w in all_written(scene)}
    text, things = without_names(scene, text)
    if answer in ("yes", "no") and (answer not in texts or POLAR.match(text)):
        return _true(scene, text, things) == (answer == "yes")
    if re.search("background|behind|backdrop", text):
        return answer == scene.background
    if scene.chart:
        return _shown(scene.chart, text, answer)
    if answer.isdigit() and HOW_MANY.search(text):
        return int(answer) == _counted(scene, text)
    parts = re.split(r" and |, ", answer)
    if texts.issuperset(parts) and not (parts[0] in (*COLORS, *SHAPES, *SIDE) and re.search(OTHER_THAN_TEXT, text)):
        return _read(scene, text, things) == parts
    if len(things) == 2:
        return _compared(scene, text, things, answer)
    if answer in ("big", "small"):
        return (things[0].radius > 0.15) == (answer == "big")
    if re.fullmatch("(?:top|bottom)?(?: ?(?:left|right))?|center", answer):
        it = things[0] if things else _text(scene, text, things)
        return answer == _place(scene, it)
    if not things and answer in COLORS and all_written(scene):
        return answer == _text(scene, text, things).color
    if not things:
        return _unnamed(scene, text, answer)
    if answer in COLORS and NAME.search(text):
        return answer == _text(scene, text, things).color
    (thing,) = things
    if " " in answer and (side := BESIDE.search(text)):
        found = [t for t in scene.things if t is not thing and lies(t, side[0], thing)]
        assert not any(lies(t, side[0], thing) for t in scene.texts), "a text is there, too"
        return [answer] == [t.name for t in found]
    return answer in (thing.color, thing.shape, thing.name)


def _true(scene: Scene, text: str, things: list[Thing]) -> bool:
    """Whether what is asked to be confirmed is so."""
    text = CLAIM.sub("", TAIL.sub("", text))
    if re.search(LINES, text):
        return bool(all_written(scene))
    if len(things) == 2:
        one, other = things
        if "bigger" in text or "smaller" in text:
            assert max(one.radius, other.radius) > 1.25 * min(one.radius, other.radius)
            one, other = (other, one) if "compared with <0>" in text else (one, other)
            return (one.radius > other.radius) == ("bigger" in text)
        side = BESIDE.search(text.split("<0>")[1])[0]
        assert lies(one, side, other) or lies(other, side, one), "a close call"
        return lies(one, side, other)
    if all_written(scene) and (claimed := _claimed(scene, text)):
        name, claim = claimed
        some = [text_meant(scene, name, things)] if name else all_written(scene)
        return claim in {w.text.lower() for w in some}
    if things:
        (thing,) = things
        if shape := re.search(rf"\ban? ({SHAPE})\b", text):
            assert shape[1] == thing.shape or not {shape[1], thing.shape} <= {"square", "rectangle", "diamond"}
            return shape[1] == thing.shape
        return re.search(rf"\b({COLOR})\b", text)[1] == thing.color
    if number := re.search(rf"\b(\d|{'|'.join(NUMBERS[2:])})\b", text):
        wanted = int(number[1]) if number[1].isdigit() else NUMBERS.index(number[1])
        return wanted == _counted(scene, text)
    color, shape = re.search(rf"\b({COLOR})\b", text), re.search(rf"\b({SHAPE})(?:e?s)?\b", text)
    if not shape and not re.search(r"\bshapes?$|\bshapes?\b(?! (?:is|of))", text):
        assert not any(t.color == color[1] for t in scene.texts) and color[1] not in ("black", "white", "gray")
    found = [t for t in scene.things if (not color or t.color == color[1]) and (not shape or t.shape == shape[1])]
    assert found or shape or color[1] != scene.background, "the background is"
    if shape and not found:
        alike = {"square": "rectangle", "rectangle": "square", "diamond": "square"}.get(shape[1])
        assert not any(t.shape == alike and (not color or t.color == color[1]) for t in scene.things)
    return bool(found)


def _claimed(scene: Scene, text: str) -> tuple[re.Match | None, str] | None:
    """What a text is claimed to say, and which one if that is told; None if no writing is spoken of."""
    name = NAME.search(text)
    rest = text if not name else text[: name.start()] + text[name.start("said") if name["said"] else name.end() :]
    about = name or re.search(
        r"\b(?:numbers?|words?|say|written|printed|shown|read|see|find|there|show|contain)\b", text
    )
    found = [w for w in re.findall(r"\w+", rest) if w.isdigit() or w in WORDS]
    named = rf"(?:{SHAPE}|shape|object|thing|figure)"
    of_things = re.search(rf"\b{named}e?s\b|(?:any|some) ?thing|\b(?:an?|any|one|single) .*{named}", rest)
    if not about or not found or of_things or re.search(r"<0>", rest):
        return None
    (claim,) = found
    special = name and (name["front"] or name["thing"] or name["place"])
    return (name if special else None), claim


def _counted(scene: Scene, text: str) -> int:
    for word in ("number", "word"):
        if re.search(rf"\b{word}s\b", text):
            return sum(w.kind == word for w in all_written(scene))
    colors, shapes = re.findall(rf"\b({COLOR})\b", text), re.findall(rf"\b({SHAPE})(?:e?s)\b", text)
    loose = not shapes and (
        re.search(r"\b(?:object|thing|symbol|item|element|figure)s\b", text) or "shapes" not in text
    )
    assert not (loose and any(not colors or t.color in colors for t in scene.texts)), "texts are objects, too"
    return sum((not colors or t.color in colors) and (not shapes or t.shape in shapes) for t in scene.things)


def _read(scene: Scene, text: str, things: list[Thing]) -> list[str]:
    """What is to be read, in small letters."""
    written = all_written(scene)
    kinds = [word for word in ("number", "word") if re.search(rf"\b{word}s\b|\b{word}", text)]
    if "bigger" in text or "smaller" in text:
        numbers = sorted((w for w in written if w.kind == "number"), key=lambda w: int(w.text))
        assert len(numbers) == 2 and numbers[0].height < 1.2 * numbers[1].height
        return [numbers["bigger" in text].text]
    name = NAME.search(text)
    special = name and (name["front"] or name["thing"] or name["place"])
    if (
        re.search(r"\b(?:numbers|words|everything|all)\b", text)
        or not (kinds or special or things or re.search(rf"\b({COLOR})\b", text))
        and len(written) > 1
    ):
        return [w.text.lower() for w in in_reading_order([w for w in written if not kinds or w.kind in kinds])]
    return [_text(scene, text, things).text.lower()]


def _text(scene: Scene, text: str, things: list[Thing]):
    """The text that is asked about."""
    written, name = all_written(scene), NAME.search(text)
    texts = {w.text.lower() for w in written}
    if name and (name["front"] or name["thing"] or name["place"] or name["said"] in texts):
        return text_meant(scene, name, things)
    if asked := ASKED.search(text):
        return text_meant(scene, asked, things)
    if said := [w for w in written if w.text.lower() in re.findall(r"\w+", text.replace("written", ""))]:
        (it,) = said
        return it
    if things:
        (it,) = [w for w in written if w.inside is things[0]]
        return it
    if color := re.search(rf"\b({COLOR})\b", text):
        (it,) = [w for w in written if w.color == color[1]]
        return it
    number, word = re.search(r"number|digits|numeral|which figure|value", text), re.search(r"\bword|letter", text)
    number = number if not word else None
    (it,) = [w for w in written if not (number or word) or w.kind == ("number" if number else "word")]
    return it


def _compared(scene: Scene, text: str, things: list[Thing], answer: str) -> bool:
    """Which of two things is further, higher or bigger; on which side one is of the other; what is between them."""
    if "between" in text and not re.search("more|further|higher|lower|bigger|smaller", text):
        ((one, other), found) = things, []
        for t in scene.things:
            if t is not one and t is not other:
                across, along = ((t.x - one.x) * (other.x - t.x), (t.y - one.y) * (other.y - t.y))
                found += [t] if max(across, along) > 0.01 else []
        return [answer] == [t.name for t in found]
    if answer in SIDE:
        one, other = reversed(things) if re.search(r"(?:side of|from|direction of|are at) <0>", text) else things
        dx, dy = one.x - other.x, one.y - other.y
        assert max(abs(dx), abs(dy)) > 1.5 * min(abs(dx), abs(dy)), "two sides would do"
        return dx * SIDE[answer][0] + dy * SIDE[answer][1] == max(abs(dx), abs(dy))
    if "bigger" in text or "smaller" in text:
        it = (max if "bigger" in text else min)(things, key=lambda t: t.radius)
    else:
        it = furthest(things, next(side for side in re.findall(r"\w+", text) if side in SIDE))
    return it is meant(scene, THING.match(f"the {answer}"))


def _unnamed(scene: Scene, text: str, answer: str) -> bool:
    """What is at a place, or what has a colour."""
    if " " in answer:
        assert not scene.texts, "a text may be meant"
        place = re.search(r"middle|between", text)
        return answer == (middle(scene.things) if place else furthest(scene.things, side_in(_where(text)))).name
    (color,) = re.findall(rf"\b({COLOR})\b", text)
    assert not any(t.color == color for t in scene.texts)
    assert color not in ("black", "white", "gray") or not all_written(scene)
    return [answer] == [t.shape for t in scene.things if t.color == color]


def _where(text: str) -> str:
    return re.search(r"\b(?:left|right|top|bottom|up|down|highest|lowest)(?:most)?\b", text)[0]


def _place(scene: Scene, it) -> str:
    """In thirds, by a margin."""
    x, y = it.x / scene.width, it.y / scene.height
    assert all(min(abs(at - 1 / 3), abs(at - 2 / 3)) > 0.03 for at in (x, y)), "between two places"
    across = "left" if x < 1 / 3 else "right" if x > 2 / 3 else ""
    along = "top" if y < 1 / 3 else "bottom" if y > 2 / 3 else ""
    return f"{along} {across}".strip() or "center"


def _shown(chart: Chart, text: str, answer: str) -> bool:
    if answer.endswith("chart"):
        return answer == f"{chart.kind} chart" and re.search("chart|diagram|plot", text)
    if answer.isdigit():
        return int(answer) == len(chart.colors)
    most = max if re.search("tallest|highest|biggest", text) else min
    return answer == chart.colors[chart.values.index(most(chart.values))]
