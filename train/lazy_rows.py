"""Training rows that stay in their file: the position of each is kept, and it is parsed when it is read."""

from __future__ import annotations

import json
from array import array
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from tqdm import tqdm

from mobilevlm.errors import UserError
from mobilevlm.rows.annotations import AnnotationError, Row, read_placed
from mobilevlm.rows.forms import as_conversation

from .arguments import world_rank

SLOW = 2  # seconds of reading after which a bar is shown


class Rows(Protocol):
    """Rows that can be counted, gone through and read by number: a list, or `LazyRows`."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Row]: ...

    def __getitem__(self, number: int, /) -> Row: ...


class LazyRows:
    """Rows of a JSON list, or of one JSON object per line (`.jsonl`), in the usual form (`forms.as_conversation`).

    The first iteration finds the rows; `len` and `[]` find them first if nothing has. Every row is read with its own
    file handle, so that copies in other processes, forked or pickled, read independently.
    """

    def __init__(self, path: Path):
        """Names the file, which is not opened yet."""
        self.path = path
        self._spans: np.ndarray | None = None  # (rows, 2) int64: first byte and the one after the last

    def __iter__(self) -> Iterator[Row]:
        """Iterates over the rows.

        Raises:
            UserError: the file is missing, cannot be read to its end, or holds no rows.
        """
        return self._find() if self._spans is None else (self[number] for number in range(len(self)))

    def _find(self) -> Iterator[Row]:
        spans = array("q")
        try:
            with self._bar() as bar:
                for row, start, end in read_placed(self.path, bar.update):
                    spans.extend((start, end))
                    yield as_conversation(row)
        except AnnotationError as error:
            raise UserError(f"{self.path} {error}") from None
        except FileNotFoundError:
            raise UserError(f"{self.path} does not exist: give --data the JSON file of the training rows") from None
        except OSError as error:
            raise UserError(f"{self.path} cannot be read: {error.strerror}") from None
        if not spans:
            raise UserError(f"{self.path} holds no training rows")
        self._spans = np.frombuffer(spans, np.int64).reshape(-1, 2)

    def _bar(self) -> tqdm:
        """Progress bar: on a terminal, in one process, if reading takes longer than `SLOW`."""
        hidden = None if world_rank() == 0 else True
        size, name = self.path.stat().st_size, self.path.name
        return tqdm(total=size, unit="B", unit_scale=True, desc=name, leave=False, delay=SLOW, disable=hidden)

    def _found(self) -> np.ndarray:
        if self._spans is None:
            deque(self._find(), maxlen=0)
        assert self._spans is not None  # `_find` sets it or raises
        return self._spans

    def __len__(self) -> int:
        return len(self._found())

    def __getitem__(self, number: int) -> Row:
        """Parses a row.

        Raises:
            UserError: the row is no longer where it was found.
        """
        start, end = map(int, self._found()[number])
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                return as_conversation(json.loads(file.read(end - start)))  # bytes: json knows UTF-16 from UTF-8
        except (OSError, ValueError) as error:
            raise UserError(
                f"row {number} can no longer be read from {self.path} ({error}): was the file changed while it was in "
                "use? Start the run again, it goes on from its newest checkpoint"
            ) from None
