"""ScienceQA, test split: multiple choice, about half of it with an image. The paper's SQA-I is that half."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mobilevlm.errors import UserError

from ..jsonl import read_json, refuse_unusable
from ..task import LETTER_ANSWER, Answer, ClosedQuestion, Counts, Question, Task

LETTERS = "ABCDE"
IMAGE_TOKEN = "<image>"
MAX_NEW_TOKENS = 1024
OUTPUT, RESULT = "output.jsonl", "result.json"  # the first is one JSON object, whatever its name says
_SENTENCE = re.compile(r"The answer is ([A-Z]).")  # the point stands for any character: an official slip


class Sqa(Task):
    """Accuracy over the questions with an image and over all; the answers' prompts say which have one.

    The official script counts a question of the split that nobody answered as wrong. Here only those asked count, so
    that a part of the questions can be graded; for a whole run both are the same.
    """

    name = "sqa"
    title = "SQA-I"
    headline = "image_accuracy"

    def questions(self, data: Path) -> list[Question]:
        """Questions of LLaVA's file, each asked for a letter; see `Task.questions`."""
        path = data / self.files.annotations
        rows = read_json(path, self.files.source)
        if not isinstance(rows, list):
            raise UserError(f"{path} holds no list. Download it again: {self.files.source}")
        questions = []
        for number, row in enumerate(rows):
            try:
                text = row["conversations"][0]["value"].replace(IMAGE_TOKEN, "").strip() + LETTER_ANSWER
                image = data / (self.files.images or "") / row["image"] if "image" in row else None
                prompt = text if image is None else f"{IMAGE_TOKEN}\n{text}"
                question = Question(row["id"], text, image, prompt, square=True, max_new_tokens=MAX_NEW_TOKENS)
            except (KeyError, IndexError, TypeError, AttributeError):
                raise UserError(
                    f"{path}, row {number} is no question of ScienceQA. Download it again: {self.files.source}"
                ) from None
            known = {"value": text, "image": row.get("image")}
            refuse_unusable(known, f"{path}, row {number}", self.files.source)
            questions.append(question)
        return questions

    def closed_questions(self, data: Path) -> list[ClosedQuestion]:
        """Those with two options or more, by the options' letters; see `Task.closed_questions`."""
        found, problems = [], self._problems(data)
        for question in self.questions(data):
            count, truth = problems.get(str(question.id), (0, 0))
            if count > 1:
                group = str(question.image or question.id)
                found.append(ClosedQuestion(question, tuple(LETTERS[:count]), truth, group))
        return found

    def unasked(self, data: Path, questions: Sequence[Question]) -> int:
        """Questions of the split that LLaVA's file lacks; see `Task.unasked`."""
        return len(set(self._problems(data)) - {str(question.id) for question in questions})

    def counts(self, data: Path, answers: Sequence[Answer]) -> Counts:
        """Grade the answers given.

        Args:
            data: the directory that has `benchmark_data`.
            answers: to some or all of the questions.

        Raises:
            UserError: as of `Task.counts`; also, two answers to one question.
        """
        graded = self._graded(data, answers)
        rows = [[item["right"], 1, item["right"] and item["is_multimodal"], item["is_multimodal"]] for item in graded]
        names = ("right", "asked", "right_with_image", "asked_with_image")
        return Counts([item["question_id"] for item in graded], names, np.array(rows, np.float64).reshape(-1, 4))

    def metrics(self, total: Mapping[str, float]) -> dict[str, float]:
        """`image_accuracy` and `accuracy` in percent."""
        return {
            "image_accuracy": _percent(total["right_with_image"], total["asked_with_image"]),
            "accuracy": _percent(total["right"], total["asked"]),
        }

    def graded(self, total: Mapping[str, float]) -> int:
        """Number of questions with an image."""
        return int(total["asked_with_image"])

    def submission(self, data: Path, answers: Sequence[Answer], out: Path) -> list[Path]:
        """Write what the official script does: right and wrong answers in one file, sums and choices in the other.

        Args:
            data: the directory that has `benchmark_data`.
            answers: to some or all of the questions.
            out: an existing directory.
        """
        graded = self._graded(data, answers)
        right = sum(item["right"] for item in graded)
        result = {
            "acc": _percent(right, len(graded)),
            "correct": right,
            "count": len(graded),
            "results": {item["question_id"]: item["choice"] for item in graded},
            "outputs": {item["question_id"]: item["pred"] for item in graded},
        }
        fields = ("question_id", "parsed_ans", "ground_truth", "question", "pred", "is_multimodal")
        output: dict[str, list[dict[str, Any]]] = {"correct": [], "incorrect": []}
        for item in graded:
            output["correct" if item["right"] else "incorrect"].append({field: item[field] for field in fields})
        (out / OUTPUT).write_text(json.dumps(output, indent=2) + "\n")
        (out / RESULT).write_text(json.dumps(result, indent=2) + "\n")
        return [out / OUTPUT, out / RESULT]

    def _graded(self, data: Path, answers: Sequence[Answer]) -> list[dict[str, Any]]:
        """Answered questions in the official order: the fields of the official output, `right` and `choice`."""
        by_id = {str(answer.id): answer for answer in answers}
        if len(by_id) < len(answers):
            twice = next(name for name in by_id if sum(str(answer.id) == name for answer in answers) > 1)
            raise UserError(f"question {twice} of ScienceQA has two answers")
        problems = self._problems(data)
        unknown = [name for name in by_id if name not in problems]
        if unknown:
            raise UserError(f"ScienceQA's test split has no question {unknown[0]}: these answers are of something else")
        graded = []
        for name in (name for name in problems if name in by_id):
            answer, (number_of_choices, truth) = by_id[name], problems[name]
            letter = None if answer.failed else letter_in(answer.text)
            choice = LETTERS[:number_of_choices].find(letter) if letter else -1
            graded.append(
                {
                    "question_id": name,
                    "parsed_ans": letter or "FAILED",
                    "ground_truth": LETTERS[truth],
                    "question": answer.prompt,
                    "pred": answer.text,
                    "is_multimodal": IMAGE_TOKEN in answer.prompt,
                    "choice": choice,
                    "right": choice == truth,
                }
            )
        return graded

    def _problems(self, data: Path) -> dict[str, tuple[int, int]]:
        """Number of choices of each question of the test split and index of the right one, in the official order."""
        (splits, source), (problems, _) = self.files.also.items()
        split = read_json(data / splits, source)
        content = read_json(data / problems, source)
        if not isinstance(split, dict) or not isinstance(split.get("test"), list):
            raise UserError(f"{data / splits} has no list `test`. Download it again: {source}")
        found = {}
        for name in split["test"]:
            row = content.get(name) if isinstance(content, dict) else None
            choices, truth = (row.get("choices"), row.get("answer")) if isinstance(row, dict) else (None, None)
            count = len(choices) if isinstance(choices, list) else 0
            if type(truth) is not int or truth not in range(min(count, len(LETTERS))):
                raise UserError(
                    f"{data / problems}, question {name}: answer {truth!r} of choices {choices!r}. "
                    f"Download it again: {source}"
                )
            found[name] = (count, truth)
        return found


def letter_in(text: str) -> str | None:
    """Letter that an answer chooses; None if it is in none of the three official forms.

    They are the bare letter, "B. and so on", and a single "The answer is B." anywhere, with any capital.
    """
    if len(text) == 1 and text in LETTERS:
        return text
    if text[:1] in set(LETTERS) and text[1:3] == ". ":
        return text[0]
    found = _SENTENCE.findall(text)
    return found[0] if len(found) == 1 else None


def _percent(part: float, whole: float) -> float:
    """Percentage, 0 of nothing."""
    return 100 * part / whole if whole else 0.0
