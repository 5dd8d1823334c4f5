"""ScienceQA's files about demo scenes: multiple choice about an image, or about a description instead of one."""

from __future__ import annotations

import random
import re
import string
from pathlib import Path

from ..world import facts
from ..world.scenes import Scene
from .choices import SLOTS, Choice, choices
from .rows import save_image, take, write_json

TEXT_ONLY = 5  # one item in so many has no image
TOLD = ("color", "shape", "count", "writing", "chart", "check")  # kinds that a description answers
_BY_PLACE = re.compile(r"\b(at|on) the (top|bottom|left|right)\b")


def write_sqa(folder: Path, count: int) -> None:
    """Writes one question about each of `count` scenes.

    Args:
        folder: directory of this benchmark; gets `images/test/`, conversations, the split, and problems with answers.
        count: number of questions.
    """
    rows, problems = [], {}
    for number, scene, rng, (choice, context) in take("sqa", count, _item):
        key, name = str(number), None if context else "image.png"
        lettered = zip(string.ascii_uppercase, choice.options, strict=False)
        listed = " ".join(f"({letter}) {option}" for letter, option in lettered)
        text = f"Context: {context or 'N/A'}\nQuestion: {choice.question.text}\nOptions: {listed}"
        if name:
            save_image(folder / "images" / "test" / key / name, scene, rng, "PNG")
        turns = [
            {"from": "human", "value": f"<image>\n{text}" if name else text},
            {"from": "gpt", "value": f"The answer is {choice.letter}."},
        ]
        rows.append({"id": key} | ({"image": f"{key}/{name}"} if name else {}) | {"conversations": turns})
        problems[key] = {
            "question": choice.question.text,
            "choices": list(choice.options),
            "answer": choice.right,
            "hint": context,
            "image": name,
            "task": "closed choice",
            "topic": choice.question.kind,
            "solution": choice.question.long,
            "split": "test",
        }
    write_json(folder / "problems.json", problems)
    write_json(folder / "pid_splits.json", {"test": list(problems)})
    write_json(folder / "llava_test_CQM-A.json", rows)


def _item(scene: Scene, rng: random.Random, taken: int) -> tuple[Choice, str] | None:
    """Question, and the description that answers it where there is to be no image."""
    if scene.width != scene.height:
        return None  # the original crops ScienceQA's images to a square: what is at their ends is lost
    turn, alone = divmod(taken, TEXT_ONLY)
    if alone < TEXT_ONLY - 1:
        wanted = SLOTS[taken % len(SLOTS)]
        return next(((choice, "") for choice in choices(scene, rng) if choice.slot == wanted), None)
    wanted, context = TOLD[turn % len(TOLD)], facts.caption(scene, rng, most=20)
    return next(((choice, context) for choice in choices(scene, rng) if choice.slot == wanted and _told(choice)), None)


def _told(choice: Choice) -> bool:
    """Whether the description answers a question: what there is always, where it is and how big not always."""
    kinds = ("existence", "color", "shape", "count", "number", "word", "chart")
    return choice.question.kind in kinds and not _BY_PLACE.search(choice.question.text)
