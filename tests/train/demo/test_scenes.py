"""What is said about a scene against what can be seen in its pixels: colours, numbers and places found by counting."""

import colorsys
import random

import numpy as np
import pytest
from PIL import Image

from mobilevlm.rows.rules import form_of
from mobilevlm.text.templates import TEMPLATES
from mobilevlm.train.demo import conversations
from mobilevlm.train.demo.questions.usual import questions
from mobilevlm.train.demo.wordings.phrases import QUESTIONS, ask
from mobilevlm.train.demo.world import facts
from mobilevlm.train.demo.world.brush import shade
from mobilevlm.train.demo.world.draw import draw_scene
from mobilevlm.train.demo.world.scenes import COLORS, SHAPES, Scene, Thing, sample_scene
from mobilevlm.train.survey import Survey
from tests.train.demo.reader import compared

SEEDS = range(300)


def scenes(count=300):
    for seed in range(count):
        rng = random.Random(seed)
        yield sample_scene(rng), rng


def plain(*things: Thing) -> Scene:
    return Scene(1, 1, "white", "plain", list(things))


def pixels_of(picture, color: str) -> np.ndarray:
    """Where a picture has a colour: hue, saturation and value within a few points of what the name means."""
    values = np.asarray(picture.convert("HSV"), float) * [360 / 255, 100 / 255, 100 / 255]
    inside = True
    for channel, (low, high), slack in zip(np.moveaxis(values, -1, 0), COLORS[color], (4, 6, 6), strict=True):
        around = (channel - low + slack) % 360 if slack == 4 else channel - low + slack
        inside = inside & (around >= 0) & (around <= high - low + 2 * slack)
    return inside


def blobs(mask: np.ndarray) -> list[tuple[float, float]]:
    """Centres of connected patches, larger than specks, by flood fill."""
    mask, centres = mask.copy(), []
    while mask.any():
        stack, found = [tuple(np.argwhere(mask)[0])], []
        mask[stack[0]] = False
        while stack:
            y, x = stack.pop()
            found.append((x, y))
            for near in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if 0 <= near[0] < mask.shape[0] and 0 <= near[1] < mask.shape[1] and mask[near]:
                    mask[near] = False
                    stack.append(near)
        if len(found) > 20:
            centres.append(tuple(np.mean(found, axis=0)))
    return centres


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_is_drawn_where_and_as_large_as_the_scene_says(shape):
    thing = Thing(shape, "blue", 0.4, 0.6, 0.2)
    for seed in range(8):
        picture = draw_scene(plain(thing), random.Random(seed), 128)
        ys, xs = np.nonzero(np.linalg.norm(np.asarray(picture, float) - 255, axis=-1) > 120)
        assert abs(xs.mean() / 128 - 0.4) < 0.06 and abs(ys.mean() / 128 - 0.6) < 0.08
        reach = np.hypot(xs / 128 - 0.4, ys / 128 - 0.6).max()
        assert 0.15 < reach < 0.24


@pytest.mark.parametrize("color", ["red", "green", "blue", "yellow", "purple", "black"])
@pytest.mark.parametrize("count", [1, 3, 5])
def test_counting_patches_of_a_colour_gives_the_answer(color, count):
    """The pictures hold as many patches as the answer to "how many" says, where the things are."""
    things = [Thing("circle", color, 0.15 + 0.17 * i, 0.2 + 0.15 * i, 0.07) for i in range(count)]
    scene, rng = plain(*things), random.Random(count)
    picture = draw_scene(scene, random.Random(1), 192)  # a seed that fills the shapes
    found = sorted(blobs(pixels_of(picture, color)))
    assert len(found) == count
    for (x, y), thing in zip(found, things, strict=True):
        assert abs(x / 192 - thing.x) < 0.03 and abs(y / 192 - thing.y) < 0.03
    numbers = {q.short for _ in range(20) for q in questions(scene, rng) if q.kind == "count" and q.short.isdigit()}
    assert numbers <= {str(count), "0"} and str(count) in numbers


def test_relations_are_those_of_the_pixels():
    """Left, right, above and below of two patches of colour, measured in the picture."""
    checked = 0
    for seed in range(200):
        rng = random.Random(seed)
        one = Thing("circle", "red", rng.uniform(0.12, 0.88), rng.uniform(0.12, 0.88), 0.1)
        other = Thing("square", "blue", rng.uniform(0.12, 0.88), rng.uniform(0.12, 0.88), 0.1)
        side = facts.main_side(one, other)
        if side is None or np.hypot(one.x - other.x, one.y - other.y) < 0.25:
            continue
        picture = draw_scene(plain(one, other), random.Random(1), 96)
        (x1, y1), (x2, y2) = (np.argwhere(pixels_of(picture, c)).mean(0)[::-1] for c in ("red", "blue"))
        assert {"left": x1 < x2, "right": x1 > x2, "above": y1 < y2, "below": y1 > y2}[side]
        checked += 1
    assert checked > 60


def test_answers_follow_from_the_scene():
    """Yes and no, colours, shapes and numbers, recomputed from the things themselves."""
    kinds = set()
    for scene, rng in scenes():
        colors, shapes = {t.color for t in scene.things}, {t.shape for t in scene.things}
        for question in questions(scene, rng):
            kinds.add(question.kind)
            text, short = question.text.lower().replace("grey", "gray"), question.short
            assert question.long and short not in question.wrong
            if question.kind == "shape" and short in SHAPES:
                assert short in shapes
            if question.kind == "color" and short in COLORS:
                assert short in colors | {scene.background} | {t.color for t in scene.texts}
            if question.kind == "number" and short.isdigit():
                assert short in {t.text for t in scene.texts} | {t.text for t in scene.things}
            if question.kind == "existence" and short == "Yes" and scene.things and "anything" not in text:
                named = [shape for shape in SHAPES if shape in text]
                assert all(shape in shapes for shape in named) or "text" in text
    assert kinds >= {"existence", "color", "shape", "count", "relation", "place", "size", "number", "word", "chart"}


def test_yes_and_no_are_balanced():
    """Neither saying yes nor saying no is a strategy: each is 40 to 60 % of the answers about existence."""
    answers = [q.short for scene, rng in scenes(1500) for q in questions(scene, rng) if q.kind == "existence"]
    assert 0.4 < answers.count("Yes") / len(answers) < 0.6


def test_every_grammar_expands_to_a_sentence():
    words = dict.fromkeys("thing things thing_cap the the_cap one one_cap other side choice more color".split(), "x")
    words |= dict.fromkeys("shape number kind text which".split(), "y")
    for kind in QUESTIONS:
        asked = {ask(kind, random.Random(seed), **words) for seed in range(60)}
        assert len(asked) > 3
        assert not any(mark in text for text in asked for mark in "[]{}|"), kind
        assert all("  " not in text and " ?" not in text for text in asked)


def test_rows_are_what_training_takes():
    """Both templates accept every row; the same seed gives the same row."""
    captions, talks, texts = [], [], []
    for scene, rng in scenes():
        captions.append(conversations.caption_row(scene, "a.jpg", rng))
        talks.append(conversations.conversation_row(scene, "a.jpg", rng))
        texts.append(conversations.text_row(scene, rng))
    assert Survey.of(captions, form_of(TEMPLATES["plain"]), True).malformed == {}
    assert Survey.of(talks, form_of(TEMPLATES["v1"]), True).malformed == {}
    assert Survey.of(texts, form_of(TEMPLATES["v1"]), False).malformed == {}
    again = random.Random(0)
    assert conversations.caption_row(sample_scene(again), "a.jpg", again) == captions[0]


def test_no_turn_tells_what_a_later_one_asks():
    """Or the later one is answered from words: writing is read once, two things are compared once."""
    read = pairs = 0
    for scene, rng in scenes(800):
        values = [row["value"] for row in conversations.conversation_row(scene, "a.jpg", rng)["conversations"]]
        turns = list(zip(values[::2], values[1::2], strict=True))
        for written in (*scene.texts, *(thing for thing in scene.things if thing.text)):
            if written.text.lower() == "no":  # which is written in some pictures, and answers other questions
                continue
            answers = {written.text, f"The number is {written.text}.", f"The word is {written.text}."}
            asking = [number for number, (_, answer) in enumerate(turns) if answer in answers]
            read += len(asking)
            assert not any(written.text in " ".join(turn) for number in asking for turn in turns[:number])
        asked = [pair for question, _ in turns if (pair := compared(scene, question))]
        assert len(asked) == len(set(asked)), turns
        pairs += len(asked)
    assert read > 100 and pairs > 200


def test_lettered_answers_name_the_right_option():
    found = 0
    for scene, rng in scenes(100):
        for question in questions(scene, rng):
            if len(question.wrong) < 2:
                continue
            text, letter = conversations.lettered(question, rng)
            assert f"{letter}. {question.short}" in text or f"({letter}) {question.short}" in text
            found += 1
    assert found > 100


# What other tools mean by these names: CSS, matplotlib's tab colours, a common design palette.
PALETTES = {
    "red": ("#ff0000", "#d62728", "#ef4444"),
    "orange": ("#ffa500", "#ff7f0e", "#f97316"),
    "yellow": ("#ffff00", "#eab308"),
    "green": ("#008000", "#00ff00", "#2ca02c", "#22c55e"),
    "blue": ("#0000ff", "#1f77b4", "#3b82f6"),
    "purple": ("#800080", "#9467bd", "#a855f7"),
    "pink": ("#ffc0cb", "#e377c2", "#ec4899"),
    "brown": ("#a52a2a", "#8c564b", "#8b4513"),
    "gray": ("#808080", "#7f7f7f"),
}


@pytest.mark.parametrize("color", PALETTES)
def test_the_names_are_those_of_other_tools(color):
    for code in PALETTES[color]:
        picture = Image.new("RGB", (4, 4), code)
        named = [name for name in COLORS if name not in ("black", "white") and pixels_of(picture, name).all()]
        assert color in named, code


def test_the_names_do_not_overlap():
    """No value belongs to two names: a colour drawn by one name is never within another's range."""
    rng = random.Random(0)
    for color in COLORS:
        for _ in range(200):
            red, green, blue = (c / 255 for c in shade(color, rng))
            hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
            point = (360 * hue, 100 * saturation, 100 * value)
            for other in COLORS:
                if other == color:
                    continue
                (h0, h1), *rest = COLORS[other]
                inside = (point[0] - h0) % 360 < h1 - h0
                inside = inside and all(a < x < b for x, (a, b) in zip(point[1:], rest, strict=True))
                assert not inside, (color, other, point)
