"""The shipped demo model: it answers right on scenes it never saw, and on pictures other tools drew, in any wording."""

import io
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from mobilevlm import MobileVLM
from mobilevlm.checkpoint.checkpoint import open_checkpoint
from mobilevlm.presets import PRESETS
from mobilevlm.train.demo.judge import heldout, heldout_wide, is_right, predict
from mobilevlm.train.demo.wordings.phrases import SHORT_ANSWER
from tests.conftest import CHAT, DEMO, ROOT, run

# What this model reaches on 100 questions a kind is 99, 98, 99, 87, 97 and 84 on usual scenes: less some points for
# chance, because of these 60 one answer is 1.7 points. On wide ones it is 92, 85, 86, 70, 94, 73, 67 and 39.
LEAST = {"existence": 94, "color": 92, "shape": 92, "count": 78, "relation": 90, "number": 75}
LEAST_WIDE = {"existence": 83, "color": 73, "shape": 75, "count": 56, "relation": 85, "ends": 60, "number": 53}
LEAST_WIDE |= {"two numbers": 22}


@pytest.fixture(scope="module")
def model():
    return MobileVLM.from_pretrained(DEMO)


def test_it_is_published_as_its_preset_says():
    checkpoint, preset = open_checkpoint(DEMO), PRESETS["mobilevlm_v2_demo"]
    assert checkpoint.config.to_published() == preset.to_published()
    # The tower's own file names the edge that the preset leaves to be that of the picture.
    assert checkpoint.config.vision == replace(preset.vision, shortest_edge=preset.vision.image_size)
    assert sum(path.stat().st_size for path in DEMO.rglob("*") if path.is_file()) < 30e6


@pytest.mark.parametrize("questions, count, least", [(heldout, 60, LEAST), (heldout_wide, 40, LEAST_WIDE)])
def test_it_is_right_on_held_out_scenes(model, questions, count, least):
    asked = questions(count, kinds=tuple(least))
    right, blind = defaultdict(list), defaultdict(list)
    for marks, shown in ((right, True), (blind, False)):
        answers = predict(model, [(picture if shown else None, text) for picture, text, _ in asked])
        for (_, _, question), answer in zip(asked, answers, strict=True):
            marks[question.kind].append(is_right(question, answer))
    scores = {kind: 100 * np.mean(marks) for kind, marks in right.items()}
    assert all(scores[kind] >= lowest for kind, lowest in least.items()), scores
    assert all(scores[kind] > 100 * np.mean(blind[kind]) + 15 for kind in scores), scores


def flat(size=(400, 300), background="white") -> tuple[Image.Image, ImageDraw.ImageDraw]:
    picture = Image.new("RGB", size, background)
    return picture, ImageDraw.Draw(picture)


def circle_and_square() -> Image.Image:
    picture, pen = flat()
    pen.ellipse((40, 90, 140, 190), fill="red")
    pen.rectangle((250, 100, 350, 200), fill="blue")
    return picture


def four_triangles() -> Image.Image:
    picture, pen = flat((512, 512), "lightyellow")
    for x, y in ((100, 120), (380, 140), (120, 380), (390, 400)):
        pen.polygon([(x, y - 60), (x + 60, y + 50), (x - 60, y + 50)], fill="green")
    return picture


def a_number() -> Image.Image:
    picture, pen = flat((336, 336))
    pen.text((168, 168), "47", fill="black", font=ImageFont.load_default(140), anchor="mm")
    return picture


def noisy_star() -> Image.Image:
    picture, pen = flat((300, 300), "gray")
    noise = np.random.default_rng(0).normal(0, 25, (300, 300, 3))
    picture = Image.fromarray(np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8))
    angles = np.pi * (np.arange(10) / 5 - 0.5)
    points = [(150 + r * np.cos(a), 150 + r * np.sin(a)) for a, r in zip(angles, [100, 42] * 5, strict=True)]
    ImageDraw.Draw(picture).polygon(points, fill="yellow")
    return picture


def plotted() -> Image.Image:
    """By matplotlib: a heart-free world of patches in its own colours."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import patches, pyplot

    figure, axis = pyplot.subplots(figsize=(4, 4))
    axis.set(xlim=(0, 10), ylim=(0, 10), aspect="equal")
    axis.axis("off")
    axis.add_patch(patches.Circle((5, 8), 1.2, color="tab:orange"))
    axis.add_patch(patches.Rectangle((4, 1), 2, 2, color="tab:purple"))
    file = io.BytesIO()
    figure.savefig(file, dpi=100)
    pyplot.close(figure)
    return Image.open(file).convert("RGB")


ASKED = [
    (circle_and_square, "Is there a red circle?", "Yes"),
    (circle_and_square, "I wonder: can one see any green star in there?", "No"),
    (circle_and_square, "Which colour does the square have?", "blue"),
    (circle_and_square, "Tell me the shape of the red thing.", "circle"),
    (circle_and_square, "Where is the circle in relation to the square?", "left"),
    (circle_and_square, "Is the blue square to the left of the red circle?", "No"),
    (four_triangles, "How many triangles are there?", "4"),
    (four_triangles, "what color are the triangles", "green"),
    (a_number, "What number is written here?", "47"),
    (a_number, "Read the number in the image.", "47"),
    (noisy_star, "What shape is this?", "star"),
    (noisy_star, "What is the color of the star?", "yellow"),
    (plotted, "What is above the purple square?", "circle"),
    (plotted, "Is the circle orange?", "Yes"),
]


@pytest.mark.parametrize("suffix", ["", f"\n{SHORT_ANSWER}"], ids=["sentence", "word"])
def test_it_takes_other_peoples_pictures_and_words(model, suffix):
    answers = predict(model, [(draw(), text + suffix) for draw, text, _ in ASKED])
    wrong = [
        (draw.__name__, text, answer)
        for (draw, text, wanted), answer in zip(ASKED, answers, strict=True)
        if wanted.lower() not in answer.lower().replace(",", " ").replace(".", " ").split()
    ]
    assert len(wrong) <= 1, wrong  # of 14; none is reached


def test_the_engine_answers_like_pytorch(model, demo_fp32):
    """A host bundle of it, by the command line, about the picture that `run.sh demo` shows."""
    picture = ROOT / "assets" / "shapes.png"
    for question, said in (("What color is the circle?", "red"), ("How many shapes are there?", "3")):
        done = run(CHAT, "--engine", demo_fp32, "--image", picture, "--prompt", question)
        assert done.stdout.strip() == model.chat(question, picture, temperature=0)
        assert said in done.stdout
