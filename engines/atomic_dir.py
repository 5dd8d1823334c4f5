"""A directory that appears whole or not at all: built under a hidden name beside its place, renamed at the end."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from mobilevlm.errors import utf_8_path
from mobilevlm.whole_directory import whole_directory

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


def staged(out: Path, overwrite: bool, kind: Kind = BUNDLE) -> AbstractContextManager[Path]:
    """Yields an empty directory that becomes `out` when the block ends, see `whole_directory`.

    Args:
        out: the directory.
        overwrite: whether one of its kind that is there may be replaced.
        kind: of the directory.

    Raises:
        BundleError: something appeared at `out` meanwhile that may not be replaced.
    """
    return whole_directory(out, lambda: check_output(out, overwrite, kind))
