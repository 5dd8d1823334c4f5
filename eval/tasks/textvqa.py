"""TextVQA, validation set: questions about text in images; LLaVA's prompt has the words that an OCR program read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mobilevlm.errors import UserError

from ..jsonl import read_json, read_questions
from ..task import Answer, Counts, Question, Task
from .m4c import REFERENCES, soft_accuracy

OCR = "Reference OCR token:"
SUBMISSION = "textvqa_evalai.json"


class TextVqa(Task):
    """Soft accuracy: an answer counts fully if four of ten people gave it.

    A question's id is its image's, and several questions share one: they are told apart by their text.
    """

    name = "textvqa"
    title = "TextVQA"
    headline = "accuracy"

    def questions(self, data: Path) -> list[Question]:
        """Questions of LLaVA's file, see `Task.questions`."""
        return read_questions(self.files, data)

    def unasked(self, data: Path, questions: Sequence[Question]) -> int:
        """Entries that LLaVA's file lacks; see `Task.unasked`."""
        return len(set(self._annotations(data)) - {_key(question.answered("")) for question in questions})

    def counts(self, data: Path, answers: Sequence[Answer]) -> Counts:
        """Grade the answers given, as the official script: questions without an answer count nothing.

        Args:
            data: the directory that has `benchmark_data`.
            answers: to some or all of the questions.

        Raises:
            UserError: as of `Task.counts`; also, an answer's prompt has not the form of the questions.
        """
        references = self._annotations(data)
        rows: dict[str, list[float]] = {}
        for answer in answers:
            key = _key(answer)
            score = 0.0 if answer.failed else soft_accuracy(answer.text, _entry(references, key)["answers"])
            # The same question twice about one image is one unit: the official script cannot tell them apart.
            sums = rows.setdefault("/".join(key), [0.0, 0.0])
            sums[0] += score
            sums[1] += 1
        return Counts([*rows], ("score", "asked"), np.array([*rows.values()], np.float64).reshape(-1, 2))

    def metrics(self, total: Mapping[str, float]) -> dict[str, float]:
        """`accuracy` in percent."""
        return {"accuracy": 100 * total["score"] / total["asked"] if total["asked"] else 0.0}

    def graded(self, total: Mapping[str, float]) -> int:
        """Number of questions that were answered."""
        return int(total["asked"])

    def submission(self, data: Path, answers: Sequence[Answer], out: Path) -> list[Path]:
        """Write a list of `{question_id, answer}` with the data set's own ids, for the TextVQA challenge on EvalAI.

        The offline scorer of the original reads the answer file itself.

        Args:
            data: the directory that has `benchmark_data`.
            answers: to some or all of the questions.
            out: an existing directory.
        """
        entries = self._annotations(data)
        rows = [{"question_id": _entry(entries, _key(item))["question_id"], "answer": item.text} for item in answers]
        path = out / SUBMISSION
        path.write_text(json.dumps(rows, indent=1) + "\n")
        return [path]

    def _annotations(self, data: Path) -> dict[tuple[str, str], dict[str, Any]]:
        """Official entries by image and question in lower case; of two alike the last, as officially."""
        ((file, source),) = self.files.also.items()
        path = data / file
        content = read_json(path, source)
        rows = content.get("data") if isinstance(content, dict) else None
        if not isinstance(rows, list):
            raise UserError(f"{path} has no list `data`. Download it again: {source}")
        for number, row in enumerate(rows):
            problem = _problem(row)
            if problem:
                raise UserError(f"{path}, row {number} of `data`: {problem}. Download it again: {source}")
        return {(str(row["image_id"]), row["question"].lower()): row for row in rows}


def question_in(prompt: str) -> str | None:
    """Question of a prompt, in lower case; None if the prompt has not the form of LLaVA's questions.

    It is the first of two lines (the other asks for a short answer), or of three when one has the OCR tokens, which may
    also come first.
    """
    lines = prompt.split("\n")
    if len(lines) == 3 and f"{OCR} " in prompt:
        return lines[1 if prompt.startswith(OCR) else 0].lower()
    return lines[0].lower() if len(lines) == 2 else None


def _key(answer: Answer) -> tuple[str, str]:
    question = question_in(answer.prompt)
    if question is None:
        raise UserError(f"the answer to {answer.id} has the prompt {answer.prompt!r}, in which TextVQA has no question")
    return str(answer.id), question


def _entry(entries: Mapping[tuple[str, str], dict[str, Any]], key: tuple[str, str]) -> dict[str, Any]:
    if key not in entries:
        raise UserError(f"TextVQA has no question {key[1]!r} about image {key[0]}: these answers are of something else")
    return entries[key]


def _problem(row: object) -> str | None:
    """Problem of an entry of the official file, or None."""
    if not isinstance(row, dict):
        return "it is no object"
    for name, kinds in {"image_id": str | int, "question": str, "question_id": str | int}.items():
        if not isinstance(row.get(name), kinds):
            return f"{name} is {row.get(name)!r}"
    answers = row.get("answers")
    if not isinstance(answers, list) or len(answers) != REFERENCES or not all(isinstance(a, str) for a in answers):
        return f"answers is {answers!r}, where {REFERENCES} texts are expected"
    return None
