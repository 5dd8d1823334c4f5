"""Training rows that stay in their file: kept is where each lies, and it is parsed when it is asked for."""

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

from .annotations import AnnotationError, Row, read_placed
from .arguments import world_rank

SLOW = 2  # seconds of reading after which a bar is shown


class Rows(Protocol):
    """Rows that can be counted, gone through and read by number: a list, or `LazyRows`."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Row]: ...

    def __getitem__(self, number: int, /) -> Row: ...


class LazyRows:
    """The rows of a JSON list, or of one JSON object per line (`.jsonl`).

    The first time they are gone through finds them; `len` and `[]` do that first where nobody has. Every row is read
    with a file handle of its own, so copies of this in other processes, forked or pickled, read independently.
    """

    def __init__(self, path: Path):
        """Name the file, which is not opened yet."""
        self.path = path
        self._spans: np.ndarray | None = None  # (rows, 2) int64: first byte and the one after the last

    def __iter__(self) -> Iterator[Row]:
        """Every row.

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
                    yield row
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
        """A progress bar: on a terminal, of one process, if it takes longer than one waits without."""
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
        """Parse a row.

        Raises:
            UserError: it is not where it was when the rows were found.
        """
        start, end = map(int, self._found()[number])
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                return json.loads(file.read(end - start).decode())
        except (OSError, ValueError) as error:
            raise UserError(
                f"row {number} can no longer be read from {self.path} ({error}): was the file changed while it was in "
                "use? Start the run again, it goes on from its newest checkpoint"
            ) from None
