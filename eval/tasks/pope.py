"""POPE: is an object in the image, yes or no; the absent objects are likely ones, to provoke hallucination."""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mobilevlm.errors import UserError

from ..jsonl import read_jsonl, read_questions, read_rows
from ..task import Answer, ClosedQuestion, Counts, Question, Task, yes_or_no

# How the absent objects were chosen.
CATEGORIES = ("adversarial", "popular", "random")
CELLS = ("tp", "fp", "tn", "fn")  # "yes" is positive
SCORES = ("accuracy", "precision", "recall", "f1", "yes_ratio")


@dataclass(frozen=True)
class _Labelled:
    """One row of the question file, with its label.

    Attributes:
        number: the row's, from 0.
        row_id: its id; unique in LLaVA's file, but need not be elsewhere.
        category: one of `CATEGORIES`.
        question: the label file's wording, without what LLaVA adds to it.
        yes: the label.
    """

    number: int
    row_id: str
    category: str
    question: str
    yes: bool


class Pope(Task):
    """POPE on COCO: F1 in percent, the mean of the three categories, as LLaVA's eval_pope.py has each of them."""

    name = "pope"
    title = "POPE"
    headline = "f1"

    def questions(self, data: Path) -> list[Question]:
        """Questions of LLaVA's file, see `Task.questions`."""
        return read_questions(self.files, data)

    def closed_questions(self, data: Path) -> list[ClosedQuestion]:
        """All questions, with yes and no; see `Task.closed_questions`."""
        questions = self.questions(data)
        paired = self._paired(data, [question.answered("") for question in questions])
        return [yes_or_no(one, labelled.yes) for one, (labelled, _) in zip(questions, paired, strict=True)]

    def counts(self, data: Path, answers: Sequence[Answer]) -> Counts:
        """Grade answers. A failed one counts as the opposite of its label, one without any "no" in it as yes.

        A partial run is graded over what was asked. Where several questions have the same id, the answers to that id
        belong to them in the order of the question file.

        Args:
            data: the directory that has `benchmark_data`.
            answers: to some or all of the questions.

        Raises:
            UserError: labels do not fit the questions, or there are more answers to an id than questions.
        """
        pairs = list(self._paired(data, answers))
        names = tuple(f"{category}_{cell}" for category in CATEGORIES for cell in CELLS)
        rows = np.zeros((len(pairs), len(names)))
        for row, (labelled, answer) in zip(rows, pairs, strict=True):
            yes = not labelled.yes if answer.failed else says_yes(answer.text)
            right, side = "t" if yes == labelled.yes else "f", "p" if yes else "n"
            row[names.index(f"{labelled.category}_{right}{side}")] = 1
        return Counts([f"{labelled.number}/{labelled.row_id}" for labelled, _ in pairs], names, rows)

    def metrics(self, total: Mapping[str, float]) -> dict[str, float]:
        """Scores in percent: of each category that was asked, and the means of accuracy, F1 and yes ratio over these.

        Precision, recall and F1 are 0 where they are 0/0, and so are the means where nothing was asked.
        """
        found: dict[str, float] = {}
        for category in CATEGORIES:
            tp, fp, tn, fn = (total[f"{category}_{cell}"] for cell in CELLS)
            if asked := tp + fp + tn + fn:
                precision, recall = tp / (tp + fp or 1), tp / (tp + fn or 1)
                f1 = 2 * tp / (2 * tp + fp + fn or 1)  # as from precision and recall, but defined where these are 0
                scores = ((tp + tn) / asked, precision, recall, f1, (tp + fp) / asked)
                found |= {f"{category}_{name}": 100 * score for name, score in zip(SCORES, scores, strict=True)}
        means = {}
        for name in ("f1", "accuracy", "yes_ratio"):
            values = [found[key] for key in (f"{category}_{name}" for category in CATEGORIES) if key in found]
            means[name] = sum(values) / (len(values) or 1)
        return means | found

    def graded(self, total: Mapping[str, float]) -> int:
        """Number of questions of all categories."""
        return int(sum(total.values()))

    def submission(self, data: Path, answers: Sequence[Answer], out: Path) -> list[Path]:
        """Write a file for evaluate.py of POPE for each category that was asked, in the order of the labels.

        A failed answer is written as the opposite of its label, so that the official script counts it as here.

        Args:
            data: the directory that has `benchmark_data`.
            answers: to some or all of the questions.
            out: an existing directory.
        """
        lines = defaultdict(list)
        for labelled, answer in sorted(self._paired(data, answers), key=lambda pair: pair[0].number):
            text = ("no" if labelled.yes else "yes") if answer.failed else answer.text
            lines[labelled.category].append(json.dumps({"question": labelled.question, "answer": text}) + "\n")
        paths = []
        for category in CATEGORIES:
            if category in lines:
                paths.append(out / f"coco_pope_{category}_answers.json")
                paths[-1].write_text("".join(lines[category]), encoding="utf-8")
        return paths

    def _paired(self, data: Path, answers: Sequence[Answer]) -> Iterator[tuple[_Labelled, Answer]]:
        """Each answer with the row it answers."""
        waiting: dict[str, deque[_Labelled]] = defaultdict(deque)
        for labelled in self._labelled(data):
            waiting[labelled.row_id].append(labelled)
        for answer in answers:
            if not waiting[str(answer.id)]:
                raise UserError(f"more answers to question {answer.id} than {data / self.files.annotations} has of it")
            yield waiting[str(answer.id)].popleft(), answer

    def _labelled(self, data: Path) -> Iterator[_Labelled]:
        """Rows of the question file with their labels, matched by order within a category."""
        path = data / self.files.annotations
        by_category: dict[str, list[dict[str, Any]]] = {category: [] for category in CATEGORIES}
        rows = read_rows(self.files, data)
        for number, row in enumerate(rows):
            if row.get("category") not in CATEGORIES:
                raise UserError(f"{path}, row {number}: category is {row.get('category')!r}, not one of {CATEGORIES}")
            by_category[row["category"]].append(row)
        labels = {
            category: iter(self._labels(data, category, wanted)) for category, wanted in by_category.items() if wanted
        }
        for number, row in enumerate(rows):
            label = next(labels[row["category"]])
            question = label.get("text", row["text"].split("\n")[0])
            yield _Labelled(number, str(row["question_id"]), row["category"], question, _truth_of(label) == "yes")

    def _labels(self, data: Path, category: str, rows: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
        """Labels of a category, one for each of its rows.

        Raises:
            UserError: labels and rows do not belong together: other releases of POPE have other images.
        """
        path = self.folder(data) / f"coco/coco_pope_{category}.json"
        source = self.files.also[path.relative_to(data).as_posix()]
        labels = list(read_jsonl(path, source))
        remedy = f"These are of different releases; download the labels that fit: {source}"
        if len(labels) != len(rows):
            asked = data / self.files.annotations
            raise UserError(f"{path} has {len(labels)} labels, {asked} {len(rows)} such questions. {remedy}")
        for number, (label, row) in enumerate(zip(labels, rows, strict=True)):
            if _truth_of(label) not in ("yes", "no"):
                raise UserError(f"{path}, row {number}: label is {label.get('label')!r}. Download it again: {source}")
            # Not by id: LLaVA counts on from 10 000 000 in the second category and from 20 000 000 in the third.
            fits = label.get("image", row["image"]) == row["image"]
            if not (fits and _spelt(row["text"]).startswith(_spelt(str(label.get("text", ""))))):
                here, there = (label.get("image"), label.get("text")), (row["image"], row["text"])
                raise UserError(f"{path}, row {number} is for {here}, the question for {there}. {remedy}")
        return labels


def says_yes(text: str) -> bool:
    """Answer as the official script reads it: no if its first sentence has the word no, No or not, otherwise yes."""
    words = text.split(".")[0].replace(",", "").split(" ")
    return not {"No", "not", "no"} & set(words)


def _truth_of(label: Mapping[str, Any]) -> str:
    return str(label.get("label")).strip().lower()


def _spelt(text: str) -> str:
    """Text without a slip of POPE: it once had "imange" for "image", and LLaVA's file has kept that."""
    return text.replace("imange", "image")
