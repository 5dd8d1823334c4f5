"""What training has to know of all rows before it starts, from going through them once."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass

from .annotations import Row
from .row_rules import images_of, problem_of


@dataclass(frozen=True)
class Survey:
    """What was found.

    Attributes:
        malformed: number and problem of rows whose form is wrong.
        lengths: words per row, negative for rows without a picture, as `sampler.grouped_indices` wants them.
        pictured: how many rows of the right form have a picture.
    """

    malformed: dict[int, str]
    lengths: array
    pictured: int

    @classmethod
    def of(cls, rows: Iterable[Row], form: str, sees_images: bool) -> Survey:
        """Go through rows. Arguments as of `row_rules.problem_of`."""
        malformed: dict[int, str] = {}
        lengths, pictured = array("i"), 0
        for number, row in enumerate(rows):
            problem = problem_of(row, form, sees_images)
            if problem is not None:
                malformed[number] = problem
                lengths.append(1 if sees_images else -1)
                continue
            has_picture = bool(images_of(row))
            words = sum(len(turn["value"].split()) for turn in row["conversations"])
            lengths.append(words if has_picture else -words)
            pictured += has_picture
        return cls(malformed, lengths, pictured)
