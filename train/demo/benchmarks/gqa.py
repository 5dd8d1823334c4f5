"""GQA's files about demo scenes: open and yes-or-no questions, graded by equality with one short answer."""

from __future__ import annotations

import random
from pathlib import Path

from ..questions.question import Question
from ..questions.usual import questions
from ..wordings.phrases import SHORT_ANSWER
from ..world.scenes import Scene
from .rows import confirms, save_image, sound, take, write_json, write_lines

# Asked in turn: "yes" and "no" are questions of any kind with that answer, so neither is a strategy.
SLOTS = ("color", "shape", "count", "relation", "place", "size", "yes", "no")


def write_gqa(folder: Path, count: int) -> None:
    """Writes one question about each of `count` images.

    Args:
        folder: directory of this benchmark; gets `images/`, the questions for the model and those with answers.
        count: number of questions.
    """
    rows, answers = [], {}
    for number, scene, rng, question in take("gqa", count, _question):
        key, image = f"20{number:06d}", f"n{number:06d}"
        save_image(folder / "images" / f"{image}.jpg", scene, rng)
        text = f"{question.text}\n{SHORT_ANSWER}"
        rows.append({"question_id": key, "image": f"{image}.jpg", "text": text, "category": "default"})
        kind = "verify" if confirms(question) else "query"
        answers[key] = {
            "question": question.text,
            "answer": question.short.lower(),  # the official comparison lower-cases the prediction only
            "fullAnswer": question.long,
            "isBalanced": True,
            "imageId": image,
            "types": {"structural": kind, "semantic": question.kind},
        }
    write_json(folder / "testdev_balanced_questions.json", answers)
    write_lines(folder / "llava_gqa_testdev_balanced.jsonl", rows)


def _question(scene: Scene, rng: random.Random, taken: int) -> Question | None:
    wanted = SLOTS[taken % len(SLOTS)]
    return next((q for q in questions(scene, rng) if _slot(q) == wanted and sound(scene, q)), None)


def _slot(question: Question) -> str:
    return question.short.lower() if confirms(question) else question.kind
