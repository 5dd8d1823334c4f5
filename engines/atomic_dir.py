"""A directory that appears whole or not at all: built under a hidden name beside its place, renamed at the end."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mobilevlm.errors import utf_8_path

from .bundle import BundleError, foreign_files, is_bundle
from .leftovers import BUILDING, OLD, hidden, leftovers


@dataclass(frozen=True)
class Kind:
    """Kind of directory that a build makes.

    Attributes:
        name: in messages, `engine bundle`.
        short: the same in a word, `bundle`.
        is_one: whether a directory is one of this kind.
        foreign: names in one that are not its own.
    """

    name: str
    short: str
    is_one: Callable[[Path], bool]
    foreign: Callable[[Path], list[str]]


BUNDLE = Kind("engine bundle", "bundle", is_bundle, foreign_files)


def check_output(out: Path, overwrite: bool, kind: Kind = BUNDLE) -> None:
    """Refuses an output directory before any work is done.

    Args:
        out: the directory.
        overwrite: whether one of its kind that is there may be replaced.
        kind: of the directory.

    Raises:
        UserError: its path is not UTF-8.
        BundleError: it exists and may not be replaced, holds something of the person's, or cannot be made.
    """
    utf_8_path(utf_8_path(out).resolve())
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        if not kind.is_one(out):
            raise BundleError(f"{out} exists and is no {kind.name}: it is left alone. Choose another --out")
        if foreign := kind.foreign(out):
            raise BundleError(
                f"{out} holds files that are not the {kind.short}'s ({', '.join(foreign)}): move them first"
            )
        if not overwrite:
            raise BundleError(f"{out} exists: add --overwrite to replace it, or choose another --out")
    parent = next(path for path in out.absolute().parents if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise BundleError(f"{parent} cannot be written: choose another --out")


@contextmanager
def staged(out: Path, overwrite: bool, kind: Kind = BUNDLE) -> Iterator[Path]:
    """Yields an empty directory that becomes `out` when the block ends, and vanishes when it fails.

    One of its kind at `out` is replaced at the end, by two renames. What a killed build left behind is cleared first;
    what builds of other names did is named on stderr.

    Args:
        out: the directory.
        overwrite: whether one of its kind that is there may be replaced.
        kind: of the directory.

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
        check_output(out, overwrite, kind)
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
