"""What a killed build left beside bundles: hidden directories, found by their names and offered for removal."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .atomic_file import is_alive

BUILDING, OLD = "building", "old"
_NAME = re.compile(rf"\.(.+)\.({BUILDING}|{OLD})-(\d+)")


@dataclass(frozen=True)
class Leftover:
    """A directory of a build that was killed.

    Attributes:
        path: the directory.
        of: name of the bundle that was built.
        kind: `BUILDING` for the unfinished one, `OLD` for a good one that was about to be replaced.
    """

    path: Path
    of: str
    kind: str

    @property
    def megabytes(self) -> float:
        """Disk space that it takes."""
        sizes = [file.lstat().st_size for file in self.path.rglob("*") if not file.is_dir()]
        return sum(sizes) / 1e6

    def __str__(self) -> str:
        path = shlex.quote(str(self.path))
        if self.kind == OLD:
            back = shlex.quote(str(self.path.with_name(self.of)))
            return f"a killed build left the bundle it was replacing in {self.path}: mv {path} {back} brings it back"
        return f"a killed build left {self.megabytes:,.0f} MB in {self.path}: rm -r {path} removes them"


def hidden(out: Path, kind: str) -> Path:
    """Returns the hidden directory beside a bundle that this process uses.

    Args:
        out: the bundle's directory.
        kind: `BUILDING` or `OLD`.
    """
    return out.parent / f".{out.name}.{kind}-{os.getpid()}"


def leftovers(folder: Path, names: Iterable[str] | None = None) -> list[Leftover]:
    """Finds what killed builds left in a folder; what a running process uses is none of it.

    Args:
        folder: that holds bundles; one that cannot be read holds nothing.
        names: of the bundles that are asked about; None for all.
    """
    found, wanted = [], None if names is None else set(names)
    try:
        paths = sorted(folder.iterdir())
    except OSError:
        return []
    for path in paths:
        match = _NAME.fullmatch(path.name)
        if match and path.is_dir() and (wanted is None or match[1] in wanted) and not is_alive(int(match[3])):
            found.append(Leftover(path, match[1], match[2]))
    return found
