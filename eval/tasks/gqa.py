"""GQA: questions about relations and attributes, answered in a word. Score: equality with the one right answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mobilevlm.errors import UserError

from ..jsonl import read_json, read_questions
from ..task import Answer, ClosedQuestion, Counts, Question, Task, yes_or_no

TRUTHS = "testdev_balanced_questions.json"
PREDICTIONS = "testdev_balanced_predictions.json"


class Gqa(Task):
    """GQA testdev, balanced: accuracy in percent, as eval.py of GQA has it after LLaVA's conversion of the answers."""

    name = "gqa"
    title = "GQA"
    headline = "accuracy"

    def questions(self, data: Path) -> list[Question]:
        """Questions of LLaVA's file, see `Task.questions`."""
        return read_questions(self.files, data)

    def closed_questions(self, data: Path) -> list[ClosedQuestion]:
        """Those answered by yes or no; see `Task.closed_questions`."""
        truths = self._truths(data)
        asked = ((question, truths.get(str(question.id))) for question in self.questions(data))
        return [yes_or_no(question, truth == "yes") for question, truth in asked if truth in ("yes", "no")]

    def unasked(self, data: Path, questions: Sequence[Question]) -> int:
        """Balanced questions without a line in LLaVA's file; see `Task.unasked`."""
        asked = {str(question.id) for question in questions}
        return sum(truth is not None and name not in asked for name, truth in self._truths(data).items())

    def counts(self, data: Path, answers: Sequence[Answer]) -> Counts:
        """Grade answers; those to questions that are not balanced are left out, as the official script does.

        The official script refuses a file that lacks a balanced question. Here, a partial run is graded over what
        was asked: only questions among `answers` count.

        Args:
            data: the directory that has `benchmark_data`.
            answers: to some or all of the questions.

        Raises:
            UserError: an answer to a question that the official file does not have, or a second one to the same.
        """
        truths = self._truths(data)
        right: dict[str, bool] = {}
        for answer in answers:
            name = str(answer.id)
            if name not in truths:
                raise UserError(f"the answers have question {name}, {self.folder(data) / TRUTHS} does not")
            if name in right:
                raise UserError(f"question {name} of GQA has two answers")
            right[name] = not answer.failed and prediction(answer.text) == truths[name]
        graded = {name: correct for name, correct in right.items() if truths[name] is not None}
        rows = np.array([(correct, 1) for correct in graded.values()], np.float64).reshape(-1, 2)
        return Counts(list(graded), ("right", "questions"), rows)

    def metrics(self, total: Mapping[str, float]) -> dict[str, float]:
        """`accuracy` in percent, 0 where nothing was asked."""
        return {"accuracy": 100 * total["right"] / (total["questions"] or 1)}

    def graded(self, total: Mapping[str, float]) -> int:
        """Number of balanced questions that were answered."""
        return int(total["questions"])

    def submission(self, data: Path, answers: Sequence[Answer], out: Path) -> list[Path]:
        """Write the file for eval.py of GQA; the prediction of a failed answer is empty.

        Args:
            data: the directory that has `benchmark_data`.
            answers: to some or all of the questions.
            out: an existing directory.
        """
        rows = [
            {"questionId": str(answer.id), "prediction": "" if answer.failed else prediction(answer.text)}
            for answer in answers
        ]
        path = out / PREDICTIONS
        path.write_text(json.dumps(rows), encoding="utf-8")
        return [path]

    def _truths(self, data: Path) -> dict[str, str | None]:
        """Right answer by question id, in lower case as predictions are; None where the question is not balanced."""
        path = self.folder(data) / TRUTHS
        source = self.files.also[path.relative_to(data).as_posix()]
        entries = read_json(path, source)
        if not isinstance(entries, dict):
            raise UserError(f"{path} is no JSON object. Download it again: {source}")
        for name, entry in entries.items():
            fine = isinstance(entry, dict) and isinstance(entry.get("answer"), str) and "isBalanced" in entry
            if not fine:
                raise UserError(f"{path}, question {name} lacks answer or isBalanced. Download it again: {source}")
        right = {name: entry["answer"].strip().lower() for name, entry in entries.items()}
        return {name: right[name] if entry["isBalanced"] else None for name, entry in entries.items()}


def prediction(text: str) -> str:
    """Prediction of an answer as LLaVA's convert_gqa_for_eval.py has it: no dots at the end, lower case."""
    return text.rstrip(".").lower()
