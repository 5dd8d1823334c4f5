"""What a benchmark is: questions out of its official files, and a score out of the answers.

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

SHORT_ANSWER = "\nAnswer the question using a single word or phrase."
LETTER_ANSWER = "\nAnswer with the option's letter from the given choices directly."


@dataclass(frozen=True)
class Question:
    """One question to a model.

    Attributes:
        id: the official one.
        text: what the model is told, without the image token, which comes before it.
        image: a file, the bytes of one, or None.
        prompt: what the answer file calls the prompt, where that is not `text`.
        square: the picture's centre is cropped where the model would pad it, as the original does here.
        max_new_tokens: longest answer.
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
        """The prompt as the answer's line has it."""
        return self.prompt or self.text


@dataclass(frozen=True)
class Answer:
    """One line of an answer file, as far as scoring reads it.

    Attributes:
        id: the question's.
        prompt: see `Question.saved_prompt`.
        text: what the model said.
        failed: the question could not be asked (a broken picture, say): counts as wrong whatever the rule.
        extra: the question's further fields.
    """

    id: Any
    prompt: str
    text: str
    failed: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Counts:
    """What a score is made of, so that it can be computed for any part of the questions.

    A score is a function of sums: of right answers, of true positives, of pictures with both answers right.

    Attributes:
        ids: one for each unit that stands or falls together (a question; in MME a picture, in MMBench all rotations).
        names: of the columns.
        rows: (units, columns) float64; their sum over all units goes into `Task.metrics`.
    """

    ids: list[str]
    names: tuple[str, ...]
    rows: np.ndarray

    def total(self) -> dict[str, float]:
        """The columns summed up."""
        return dict(zip(self.names, self.rows.sum(0).tolist(), strict=True))


class Task(ABC):
    """A benchmark.

    Attributes:
        name: as `--tasks` takes it.
        title: as the paper's table has it.
        headline: the metric of that table.
    """

    name: str
    title: str
    headline: str

    @property
    def files(self) -> DataSet:
        """Where its files are below the data directory, and who offers them."""
        return next(item for item in DATA_SETS if item.name == f"benchmark/{self.name}")

    def folder(self, data: Path) -> Path:
        """Its own directory below the data directory."""
        return data / Path(self.files.annotations).parent

    @abstractmethod
    def questions(self, data: Path) -> list[Question]:
        """All questions, in the official order.

        Args:
            data: the directory that has `benchmark_data`.

        Raises:
            UserError: a file is not what it should be; the message names it and the row.
        """

    @abstractmethod
    def counts(self, data: Path, answers: Sequence[Answer]) -> Counts:
        """Grade answers by the official rules. Questions nobody answered count as the official scripts count them.

        Raises:
            UserError: answers to questions that the official files do not have.
        """

    @abstractmethod
    def metrics(self, total: Mapping[str, float]) -> dict[str, float]:
        """The scores out of `Counts.total`, `headline` among them; percentages where the paper has them."""

    @abstractmethod
    def graded(self, total: Mapping[str, float]) -> int:
        """How many questions the headline is over, out of `Counts.total`."""

    @abstractmethod
    def submission(self, data: Path, answers: Sequence[Answer], out: Path) -> list[Path]:
        """Write the answers as the official scorer or server takes them.

        Args:
            data: the directory that has `benchmark_data`.
            answers: as of `counts`.
            out: a directory, which is there.

        Returns:
            The files written.
        """
