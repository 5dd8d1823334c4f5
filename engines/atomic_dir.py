"""A directory that appears whole or not at all: built under a hidden name beside its place, renamed at the end."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .bundle import BundleError, foreign_files, is_bundle


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
        BundleError: it exists and may not be replaced, holds something of the person's, or cannot be made.
    """
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

    One of its kind at `out` is replaced at the end, by two renames. What a killed build left behind is cleared first.

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
    building = out.parent / f".{out.name}.building-{os.getpid()}"
    building.mkdir()
    try:
        yield building
        check_output(out, overwrite, kind)
        _replace(building, out)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _replace(building: Path, out: Path) -> None:
    old = out.parent / f".{out.name}.old-{os.getpid()}"
    if out.exists():
        out.rename(old)
    building.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _clear_leftovers(out: Path) -> None:
    pattern = re.compile(rf"\.{re.escape(out.name)}\.(building|old)-(\d+)")
    for path in out.parent.iterdir():
        match = pattern.fullmatch(path.name)
        if match is None or _is_alive(int(match[2])):
            continue
        if match[1] == "old" and not out.exists():  # killed between the two renames: the old bundle is still good
            path.rename(out)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
