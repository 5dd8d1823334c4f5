"""What the doctor says: one finding for each thing it looks at, with the remedy where something is wrong."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .board import Board

# In order of weight: nothing to do; could not be looked at; costs speed or may fail later; stands in the way now.
OK, UNKNOWN, ADVICE, PROBLEM = "ok", "unknown", "advice", "problem"


@dataclass(frozen=True)
class Patient:
    """What the checks look at.

    Attributes:
        root: `/`, or where a tree was copied to.
        board: as read below it.
        distributions: Python packages and their versions.
        python: version of the Python that runs engines, e.g. `3.10`; None where that cannot be known.
        free_disk_bytes: where this project lies; None for a copied tree.
        import_error: what importing TensorRT says; empty when it works, None where it was not tried.
    """

    root: Path
    board: Board
    distributions: dict[str, str]
    python: str | None
    free_disk_bytes: int | None
    import_error: str | None = None


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what `--apply` takes.
        status: `ok`, `unknown`, `advice` or `problem`.
        text: what was found.
        remedy: what to do about it; empty when there is nothing to do.
        commands: that `--apply` runs, none where a person has to do it.
        only_by_name: whether `--apply` without names leaves it alone, because it takes something away.
    """

    name: str
    status: str
    text: str
    remedy: str = ""
    commands: tuple[tuple[str, ...], ...] = ()
    only_by_name: bool = False

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)

    def __str__(self) -> str:
        line = f"{self.status:8} {self.name}: {self.text}"
        return f"{line}\n{'':9}-> {self.remedy}" if self.remedy else line
