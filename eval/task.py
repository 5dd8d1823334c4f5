"""Interface of a benchmark: questions from its official files, and scores of the answers.

A new benchmark is a file in `tasks/` with a class like those there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mobilevlm.datasets import DATA_SETS, DataSet

YES_NO = ("Yes", "No")
SHORT_ANSWER = "\nAnswer the question using a single word or phrase."
LETTER_ANSWER = "\nAnswer with the option's letter from the given choices directly."


@dataclass(frozen=True)
class Question:
    """One question to a model.

    Attributes:
        id: the official one.
        text: the prompt, without template and without the image token, which comes before it.
        image: a file, the bytes of one, or None.
        prompt: `prompt` of the answer's line, where that is not `text`.
        square: the image's centre is cropped where the model would pad it, as the original does here.
        max_new_tokens: upper bound on the answer's length.
        extra: further fields of the answer's line.
    """

    id: Any
    text: str
    image: Path | bytes | None
    prompt: str = ""
    square: bool = False
    max_new_tokens: int = 128
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def saved_prompt(self) -> str:
        """`prompt` of the answer's line."""
        return self.prompt or self.text

    def answered(self, text: str) -> Answer:
        """Answer with a text, as it is read from the answer's line."""
        return Answer(self.id, self.saved_prompt, text, extra=self.extra)


@dataclass(frozen=True)
class Answer:
    """One line of an answer file: the fields that scoring reads.

    Attributes:
        id: the question's.
        prompt: see `Question.saved_prompt`.
        text: of the model.
        failed: the question could not be asked (for example, its image is broken): it counts as wrong.
        extra: the question's further fields.
    """

    id: Any
    prompt: str
    text: str
    failed: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ClosedQuestion:
    """A question with the answers it can have, and which of them is right.

    Attributes:
        question: as it is asked anyhow.
        choices: the answers, as models write them.
        right: index of the right one.
        group: questions of one group are about the same thing, and belong to the same part of a divided benchmark.
    """

    question: Question
    choices: tuple[str, ...]
    right: int
    group: str


@dataclass(frozen=True)
class Counts:
    """Counts from which a score is computed, for any part of the questions.

    A score is a function of sums: of right answers, of true positives, of images with both answers right.

    Attributes:
        ids: one for each unit that is graded as a whole (a question; in MME an image, in MMBench all rotations).
        names: of the columns.
        rows: (units, columns) float64; their sum over all units is the argument of `Task.metrics`.
    """

    ids: list[str]
    names: tuple[str, ...]
    rows: np.ndarray

    def total(self) -> dict[str, float]:
        """Sum of each column, by name."""
        return dict(zip(self.names, self.rows.sum(0).tolist(), strict=True))


def yes_or_no(question: Question, yes: bool) -> ClosedQuestion:
    """Closed question of a benchmark that asks for yes or no, in a group with others about its image.

    Args:
        question: as the benchmark asks it.
        yes: whether that is right.
    """
    return ClosedQuestion(question, YES_NO, YES_NO.index("Yes" if yes else "No"), str(question.image))


class Task(ABC):
    """A benchmark.

    Attributes:
        name: for `--tasks`.
        title: in the paper's table.
        headline: name of the metric in that table.
    """

    name: str
    title: str
    headline: str

    @property
    def files(self) -> DataSet:
        """Paths of its files below the data directory, and who offers them."""
        return next(item for item in DATA_SETS if item.name == f"benchmark/{self.name}")

    def folder(self, data: Path) -> Path:
        """Directory of its files, below the data directory."""
        return data / Path(self.files.annotations).parent

    @abstractmethod
    def questions(self, data: Path) -> list[Question]:
        """Read all questions, in the official order.

        Args:
            data: the directory that has `benchmark_data`.

        Raises:
            UserError: a file is not what it should be; the message names it and the row.
        """

    def closed_questions(self, data: Path) -> list[ClosedQuestion]:
        """Questions of which one of a few answers is right; of most benchmarks none.

        Args:
            data: the directory that has `benchmark_data`.

        Raises:
            UserError: as of `questions`.
        """
        return []

    def unasked(self, data: Path, questions: Sequence[Question]) -> int:
        """Number of questions that have an official answer and are not asked; 0 of a benchmark where nothing tells.

        Args:
            data: the directory that has `benchmark_data`.
            questions: all of `questions`.

        Raises:
            UserError: as of `counts`.
        """
        return 0

    @abstractmethod
    def counts(self, data: Path, answers: Sequence[Answer]) -> Counts:
        """Grade answers by the official rules.

        Args:
            data: the directory that has `benchmark_data`.
            answers: to some or all of the questions.

        Raises:
            UserError: answers to questions that the official files do not have.
        """

    @abstractmethod
    def metrics(self, total: Mapping[str, float]) -> dict[str, float]:
        """Scores of a `Counts.total`, `headline` among them; in percent where the paper's are."""

    @abstractmethod
    def graded(self, total: Mapping[str, float]) -> int:
        """Number of questions that the headline is over, of a `Counts.total`."""

    @abstractmethod
    def submission(self, data: Path, answers: Sequence[Answer], out: Path) -> list[Path]:
        """Write the answers in the form of the official scorer or server.

        Args:
            data: the directory that has `benchmark_data`.
            answers: to some or all of the questions.
            out: an existing directory.

        Returns:
            The files written.
        """
