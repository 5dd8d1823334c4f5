"""Writes a directory whole or not at all: whoever opens it sees the old content or the new, never a part."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .leftovers import BUILDING, OLD, hidden, leftovers


@contextmanager
def whole_directory(out: Path, check: Callable[[], object]) -> Iterator[Path]:
    """Yields an empty directory that becomes `out` when the block ends, and vanishes when it fails.

    What is at `out` is replaced at the end, by two renames. What a killed process left behind is cleared first; what
    others of other names left is named on stderr.

    Args:
        out: the directory.
        check: called before it is replaced, because something may have appeared there meanwhile; its error stops that.
    """
    out = out.resolve()  # a link to a directory stays a link
    out.parent.mkdir(parents=True, exist_ok=True)
    _clear_leftovers(out)
    building = hidden(out, BUILDING)
    building.mkdir()
    try:
        yield building
        check()
        _replace(building, out)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _replace(building: Path, out: Path) -> None:
    old = hidden(out, OLD)
    if out.exists():
        out.rename(old)
    building.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _clear_leftovers(out: Path) -> None:
    """Removes what killed processes left of this directory; names what those of others did."""
    for left in leftovers(out.parent):
        if left.of != out.name:
            print(left, file=sys.stderr)
        elif left.kind == OLD and not out.exists():  # killed between the two renames: the old one is still good
            left.path.rename(out)
        else:
            shutil.rmtree(left.path, ignore_errors=True)
