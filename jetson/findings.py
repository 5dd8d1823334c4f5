"""Findings of the doctor: one for each thing it checks, with the remedy where something is wrong."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .board import Board

# In order of weight: nothing to do; could not be looked at; costs speed or may fail later; stands in the way now.
OK, UNKNOWN, ADVICE, PROBLEM = "ok", "unknown", "advice", "problem"


@dataclass(frozen=True)
class System:
    """A board and its software, as the checks read it.

    Attributes:
        root: `/`, or where a tree was copied to.
        board: read below `root`.
        distributions: names and versions of Python packages.
        python: version of the Python that runs engines, e.g. `3.10`; None where that cannot be known.
        free_disk_bytes: free space where this project lies; None for a copied tree.
        import_error: message of importing TensorRT; empty when it works, None where it was not tried.
    """

    root: Path
    board: Board
    distributions: dict[str, str]
    python: str | None
    free_disk_bytes: int | None
    import_error: str | None = None


@dataclass(frozen=True)
class Finding:
    """Result of one check.

    Attributes:
        name: name of the finding, which `--apply` takes.
        status: `ok`, `unknown`, `advice` or `problem`.
        text: what was found.
        remedy: what to do about it; empty when there is nothing to do.
        commands: commands that `--apply` runs; none where a person has to act.
        only_by_name: whether `--apply` without names leaves it alone, because it removes something.
    """

    name: str
    status: str
    text: str
    remedy: str = ""
    commands: tuple[tuple[str, ...], ...] = ()
    only_by_name: bool = False

    def as_json(self) -> dict[str, Any]:
        """Returns the fields for `--json`."""
        return asdict(self)

    def __str__(self) -> str:
        line = f"{self.status:8} {self.name}: {self.text}"
        return f"{line}\n{'':9}-> {self.remedy}" if self.remedy else line
