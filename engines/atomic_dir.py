"""A directory that appears whole or not at all: built under a hidden name beside its place, renamed at the end."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .bundle import BundleError, foreign_files, is_bundle


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

    A bundle at `out` is replaced at the end, by two renames. What a killed build left behind is cleared first.

    Args:
        out: the directory.
        overwrite: whether a bundle that is there may be replaced.

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
        check_output(out, overwrite)
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
