"""MME's files about demo scenes: two questions about an image, one to confirm and one to deny, in five categories."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from ..questions.attributes import existence
from ..questions.checks import check
from ..questions.question import Question
from ..questions.relations import relation
from ..wordings.phrases import SHORT_ANSWER
from ..world.scenes import Scene
from .rows import save_image, sound, take, write_lines, write_text

# Category to the function that asks its questions, and their kinds. The demo knows no celebrities and does no sums.
CATEGORIES: dict[str, tuple[Callable[[Scene, random.Random], list[Question]], tuple[str, ...]]] = {
    "existence": (existence, ("existence",)),
    "count": (check, ("count",)),
    "position": (relation, ("relation",)),
    "color": (check, ("color",)),
    "OCR": (check, ("number", "word")),
}
# The release has some categories in two folders and some, like the others here, with the answers beside the images.
IN_TWO_FOLDERS = ("color", "OCR")
TRIES = 6


def write_mme(folder: Path, count: int) -> None:
    """Writes a yes and a no question about each image.

    Args:
        folder: directory of this benchmark; gets `images/`, with the answers in it, and the questions for the model.
        count: approximate number of questions; every category has as many images.
    """
    rows = []
    images = len(CATEGORIES) * max(1, round(count / 2 / len(CATEGORIES)))
    for number, scene, rng, (category, pair) in take("mme", images, _pair):
        name, home = f"{number:06d}", folder / "images" / category
        split = category in IN_TWO_FOLDERS
        image = f"{category}/images/{name}.png" if split else f"{category}/{name}.png"
        save_image(folder / "images" / image, scene, rng, "PNG")
        lines = [f"{question.text} Please answer yes or no.\t{question.short}\n" for question in pair]
        write_text((home / "questions_answers_YN" if split else home) / f"{name}.txt", "".join(lines))
        for question in pair:
            row = {"question_id": f"{category}/{name}.png", "image": image}
            rows.append(row | {"text": f"{question.text}\n{SHORT_ANSWER}", "category": category})
    write_lines(folder / "llava_mme.jsonl", rows)


def _pair(scene: Scene, rng: random.Random, taken: int) -> tuple[str, list[Question]] | None:
    """Category, in turn, with a question of it that is answered by yes and one by no."""
    category = list(CATEGORIES)[taken % len(CATEGORIES)]
    ask_about, kinds = CATEGORIES[category]
    if category == "OCR" and any(text.text != text.text.lower() for text in scene.texts):
        return None  # the words that are not there come in small letters, which would give them away
    found: dict[str, Question] = {}
    for question in (question for _ in range(TRIES) for question in ask_about(scene, rng)):
        if question.kind in kinds and sound(scene, question):
            found.setdefault(question.short, question)
    return (category, [found["Yes"], found["No"]]) if {"Yes", "No"} <= found.keys() else None
