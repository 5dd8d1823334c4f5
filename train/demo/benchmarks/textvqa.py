"""TextVQA's files about demo scenes: what is written, with and without the tokens an OCR system would have read."""

from __future__ import annotations

import random
from pathlib import Path

from ..questions.question import Question
from ..questions.reading import reading
from ..wordings.phrases import SHORT_ANSWER
from ..world.scenes import Scene
from .choices import other_writings
from .rows import save_image, sound, take, write_json, write_lines

# OCR tokens in the prompt, in turn: no line about them, the right one, none, a wrong one beside it.
HINTS = ("none", "right", "empty", "right", "mixed")
ANNOTATORS = 10  # the official score needs so many answers


def write_textvqa(folder: Path, count: int) -> None:
    """Writes one question about each of `count` images with something written in it.

    Args:
        folder: directory of this benchmark; gets `train_images/`, the questions for the model and those with answers.
        count: number of questions.
    """
    rows: list[dict] = []
    answers: list[dict] = []
    for number, scene, rng, question in take("textvqa", count, _question):
        image = f"{number:016x}"
        hint = _hint(question, HINTS[len(rows) % len(HINTS)], rng)
        text = f"{question.text}\n{hint}{SHORT_ANSWER}"
        save_image(folder / "train_images" / f"{image}.jpg", scene, rng)
        rows.append({"question_id": image, "image": f"{image}.jpg", "text": text, "category": "default"})
        answer = {"question": question.text, "image_id": image, "question_id": len(rows)}
        answers.append(answer | {"answers": [question.short] * ANNOTATORS, "set_name": "val"})
    write_json(folder / "TextVQA_0.5.1_val.json", {"dataset_type": "val", "data": answers})
    write_lines(folder / "llava_textvqa_val_v051_ocr.jsonl", rows)


def _question(scene: Scene, rng: random.Random, taken: int) -> Question | None:
    asked = [q for q in reading(scene, rng) if q.kind in ("number", "word") and sound(scene, q)]
    return rng.choice(asked) if asked else None


def _hint(question: Question, kind: str, rng: random.Random) -> str:
    """Line of the prompt about the OCR tokens; empty if it has none."""
    if kind == "none":
        return ""
    tokens = [] if kind == "empty" else [question.short]
    if kind == "mixed":
        tokens = rng.sample([question.short, other_writings(question.short, rng)[0]], 2)
    return f"Reference OCR token: {', '.join(tokens)}\n"
