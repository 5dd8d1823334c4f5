"""Survey of all rows in one pass, before training starts."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass

from mobilevlm.rows.annotations import Row
from mobilevlm.rows.rules import images_of, problem_of


@dataclass(frozen=True)
class Survey:
    """Result of a survey.

    Attributes:
        malformed: number of each row whose form is wrong, with the problem.
        lengths: words per row, negative for rows without an image, as `sampler.grouped_indices` wants them.
        with_image: number of well-formed rows with an image.
    """

    malformed: dict[int, str]
    lengths: array
    with_image: int

    @classmethod
    def of(cls, rows: Iterable[Row], form: str, sees_images: bool) -> Survey:
        """Reads all rows.

        Args:
            rows: the rows as parsed.
            form: see `DataSet`; not "table".
            sees_images: whether the rows are for a model with vision.
        """
        malformed: dict[int, str] = {}
        lengths, with_image = array("i"), 0
        for number, row in enumerate(rows):
            problem = problem_of(row, form, sees_images)
            if problem is not None:
                malformed[number] = problem
                lengths.append(1 if sees_images else -1)
                continue
            has_image = bool(images_of(row))
            words = sum(len(turn["value"].split()) for turn in row["conversations"])
            lengths.append(words if has_image else -words)
            with_image += has_image
        return cls(malformed, lengths, with_image)
