"""A directory that appears whole or not at all: built under a hidden name beside its place, renamed at the end."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .bundle import BundleError, foreign_files, is_bundle
from .leftovers import BUILDING, OLD, hidden, leftovers


def check_output(out: Path, overwrite: bool) -> None:
    """Refuses an output directory before any work is done.

    Args:
        out: the directory.
        overwrite: whether a bundle that is there may be replaced.

    Raises:
        BundleError: it exists and may not be replaced, holds something of the person's, or cannot be made.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        if not is_bundle(out):
            raise BundleError(f"{out} exists and is no engine bundle: it is left alone. Choose another --out")
        if foreign := foreign_files(out):
            raise BundleError(f"{out} holds files that are not the bundle's ({', '.join(foreign)}): move them first")
        if not overwrite:
            raise BundleError(f"{out} exists: add --overwrite to replace it, or choose another --out")
    parent = next(path for path in out.absolute().parents if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise BundleError(f"{parent} cannot be written: choose another --out")


@contextmanager
def staged(out: Path, overwrite: bool) -> Iterator[Path]:
    """Yields an empty directory that becomes `out` when the block ends, and vanishes when it fails.

    A bundle at `out` is replaced at the end, by two renames. What a killed build left behind is cleared first; what
    builds of other names did is named on stderr.

    Args:
        out: the directory.
        overwrite: whether a bundle that is there may be replaced.

    Raises:
        BundleError: something appeared at `out` meanwhile that may not be replaced.
    """
    out = out.resolve()  # a link to a directory stays a link
    out.parent.mkdir(parents=True, exist_ok=True)
    _clear_leftovers(out)
    building = hidden(out, BUILDING)
    building.mkdir()
    try:
        yield building
        check_output(out, overwrite)
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
    """Removes what killed builds of this bundle left; names what those of others did."""
    for left in leftovers(out.parent):
        if left.of != out.name:
            print(left, file=sys.stderr)
        elif left.kind == OLD and not out.exists():  # killed between the two renames: the old bundle is still good
            left.path.rename(out)
        else:
            shutil.rmtree(left.path, ignore_errors=True)
