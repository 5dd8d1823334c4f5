"""MMBench's table about demo scenes: multiple choice, every question once for each rotation of its options."""

from __future__ import annotations

import base64
import csv
import io
import random
from io import BytesIO
from pathlib import Path

from ..world.scenes import Scene
from .choices import SLOTS, Choice, choices
from .rows import save_image, take, write_text

ROTATED = 1_000_000  # added to the index by each rotation, so that indexes of one question are equal modulo this
LETTERS = "ABCD"
COLUMNS = ("index", "question", "hint", *LETTERS, "answer", "category", "image", "source", "l2-category", "comment")
COLUMNS += ("split",)
# Kinds that are asked in turn, with MMBench's category and the ability above that.
CATEGORIES = {
    "color": ("attribute_recognition", "finegrained_perception (instance-level)"),
    "shape": ("attribute_recognition", "finegrained_perception (instance-level)"),
    "count": ("object_localization", "finegrained_perception (instance-level)"),
    "relation": ("spatial_relationship", "finegrained_perception (cross-instance)"),
    "place": ("object_localization", "finegrained_perception (instance-level)"),
    "size": ("attribute_recognition", "finegrained_perception (instance-level)"),
    "writing": ("ocr", "finegrained_perception (instance-level)"),
    "chart": ("structuralized_imagetext_understanding", "logic_reasoning"),
    "check": ("attribute_recognition", "finegrained_perception (instance-level)"),
}


def write_mmbench(folder: Path, count: int) -> None:
    """Writes one question about each of `count` images, with all its rotations.

    Args:
        folder: directory of this benchmark; gets one table, which holds the images, too.
        count: number of questions; the table has up to four rows of each.
    """
    asked = []
    for number, scene, rng, choice in take("mmbench", count, _choice):
        file = BytesIO()
        save_image(file, scene, rng)
        asked.append((number, choice, _hint(scene, choice), base64.b64encode(file.getvalue()).decode()))
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, COLUMNS, delimiter="\t", lineterminator="\n")
    writer.writeheader()
    for turn in range(len(LETTERS)):
        for number, choice, hint, image in asked:
            if turn < len(choice.options):
                row = {"index": number + turn * ROTATED, "hint": hint, "image": image}
                writer.writerow(row | _rotated(choice, turn))
    write_text(folder / "mmbench_dev_en_20231003.tsv", table.getvalue())


def _choice(scene: Scene, rng: random.Random, taken: int) -> Choice | None:
    wanted = SLOTS[taken % len(SLOTS)]
    return next((choice for choice in choices(scene, rng) if choice.slot == wanted), None)


def _hint(scene: Scene, choice: Choice) -> str:
    """Hint of a question: a sentence on the image for some, empty for most."""
    if scene.chart and not choice.question.short.endswith("chart"):
        return f"The picture shows a {scene.chart.kind} chart."
    return "Something is written in the picture." if choice.slot == "writing" else ""


def _rotated(choice: Choice, turn: int) -> dict[str, str]:
    """Cells of a row: those that depend on the rotation, and those that belong to the question."""
    options = choice.options[turn:] + choice.options[:turn]
    category, ability = CATEGORIES[choice.slot]
    cells = dict(zip(LETTERS, options, strict=False)) | {"answer": LETTERS[options.index(choice.question.short)]}
    described = {"category": category, "l2-category": ability, "source": "demo", "split": "dev"}
    return {"question": choice.question.text} | cells | described
