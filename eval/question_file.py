"""Questions of one's own, in a file: how they are written down, and how answers to them are graded.

A line of the file is a JSON object: `{"image": "a.jpg", "question": "Is the door open?", "answer": "yes"}`. The image's
path is taken from the file's folder, or left out; several right answers are a list.
"""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mobilevlm.errors import UserError
from mobilevlm.rows.image_names import missing_hint, name_problem
from mobilevlm.text_file import lone_surrogate

from .jsonl import lines_of
from .task import Answer, Counts, Question

EXAMPLE = '{"image": "a.jpg", "question": "Is the door open?", "answer": "yes"}'
FIELDS = {"image", "question", "answer"}
NAMED = 3  # missing images in a message


@dataclass(frozen=True)
class OwnQuestion:
    """One line of the file.

    Attributes:
        question: as it is asked; its id is the number of the line, from 1.
        right: answers that are right, normalised.
    """

    question: Question
    right: frozenset[str]


def normalised(text: str) -> str:
    """Returns what is compared: case, white space around and between words, and dots at the end do not count.

    Nor does the Unicode form: macOS writes accents apart (NFD), models as one character (NFC).
    """
    return " ".join(unicodedata.normalize("NFC", text).casefold().split()).rstrip(". ")


def read_question_file(path: Path, limit: int | None = None, max_new_tokens: int = 128) -> list[OwnQuestion]:
    """Reads a file of questions.

    Args:
        path: JSON lines, see `text_file` for encodings; blank lines are skipped.
        limit: only the first so many; None for all.
        max_new_tokens: upper bound on the length of each answer.

    Raises:
        UserError: it cannot be read, has no question, or a line is not one; images that it names are missing.
    """
    try:
        lines = lines_of(path.read_bytes(), f"--questions {path}")
    except OSError as error:
        raise UserError(f"--questions {path} cannot be read: {error.strerror}") from None
    found: list[OwnQuestion] = []
    for number, line in enumerate(lines, 1):
        if line.strip() and (limit is None or len(found) < limit):
            found.append(_own_question(_object(line, path, number), path, number, max_new_tokens))
    if not found:
        raise UserError(f"--questions {path} has no question; a line is {EXAMPLE}")
    images = dict.fromkeys(one.question.image for one in found if isinstance(one.question.image, Path))
    missing = [_with_hint(image, path.parent) for image in images if not image.is_file()]
    if missing:
        raise UserError(
            f"--questions {path}: {len(missing)} of {len(images)} images are missing, e.g. "
            f"{', '.join(missing[:NAMED])}; their paths are taken from the file's folder"
        )
    return found


def _with_hint(image: Path, folder: Path) -> str:
    found = missing_hint(os.path.relpath(image, folder), folder)
    return f"{image} ({found})" if found else str(image)


def digest(questions: Sequence[OwnQuestion]) -> str:
    """Returns a digest of what an answer depends on: texts and the content of images."""
    known = hashlib.sha256()
    for one in questions:
        known.update(json.dumps([one.question.text, one.question.max_new_tokens]).encode())
        if isinstance(one.question.image, Path):
            known.update(hashlib.sha256(one.question.image.read_bytes()).digest())
    return known.hexdigest()


def grade(questions: Sequence[OwnQuestion], answers: Sequence[Answer]) -> Counts:
    """Counts right answers; one to a question that could not be asked is wrong.

    Args:
        questions: all of them.
        answers: to each, in the same order.
    """
    right = [
        not answer.failed and normalised(answer.text) in one.right
        for one, answer in zip(questions, answers, strict=True)
    ]
    rows = np.array([(correct, 1) for correct in right], np.float64)
    return Counts([str(one.question.id) for one in questions], ("right", "questions"), rows)


def accuracy(total: Mapping[str, float]) -> float:
    """Returns the accuracy in percent, of a `Counts.total`."""
    return 100 * total["right"] / (total["questions"] or 1)


def _object(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # also what UnicodeDecodeError is
        raise UserError(f"--questions {path}, line {number} is no JSON ({error}); a line is {EXAMPLE}") from None
    if not isinstance(row, dict):
        raise UserError(f"--questions {path}, line {number} is no JSON object; a line is {EXAMPLE}")
    return row


def _own_question(row: Mapping[str, Any], path: Path, number: int, max_new_tokens: int) -> OwnQuestion:
    def refuse(problem: str) -> UserError:
        return UserError(f"--questions {path}, line {number}: {problem}; a line is {EXAMPLE}")

    if unknown := sorted(set(row) - FIELDS):
        raise refuse(f"{unknown[0]} is no field")
    text, image = row.get("question"), row.get("image")
    if not isinstance(text, str) or not text.strip():
        raise refuse(f"question is {text!r}, and has to be text")
    if half := lone_surrogate(text):
        raise refuse(f"question has half a character ({half}, a lone surrogate)")
    if image is not None and (not isinstance(image, str) or not image or "\0" in image):
        raise refuse(f"image is {image!r}, and has to be a path")
    if image and (problem := name_problem(image)):
        raise refuse(problem)
    answers = row.get("answer")
    every = answers if isinstance(answers, list) else [answers]
    if not every or not all(isinstance(one, str) and normalised(one) for one in every):
        raise refuse(f"answer is {answers!r}, and has to be text or a list of texts")
    asked = Question(number, text, path.parent / image if image else None, max_new_tokens=max_new_tokens)
    return OwnQuestion(asked, frozenset(map(normalised, every)))
