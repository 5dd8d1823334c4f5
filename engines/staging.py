"""A directory that appears whole or not at all: built under a hidden name beside its place, renamed at the end."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .bundle import BundleError, is_bundle


def check_output(out: Path, overwrite: bool) -> None:
    """Refuse an output directory before any work is done.

    Raises:
        BundleError: it exists and may not be replaced, or its parent cannot be written.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        if not is_bundle(out):
            raise BundleError(f"{out} exists and is no engine bundle: it is left alone. Choose another --out")
        if not overwrite:
            raise BundleError(f"{out} exists: add --overwrite to replace it, or choose another --out")
    parent = next(path for path in out.parents if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise BundleError(f"{parent} cannot be written: choose another --out")


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Yield an empty directory that becomes `out` when the block ends, and vanishes when it fails.

    An `out` that exists is replaced at the end, by two renames. What a killed build left behind is cleared first.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    _clear_leftovers(out)
    building = out.parent / f".{out.name}.building-{os.getpid()}"
    building.mkdir()
    try:
        yield building
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
    for path in out.parent.glob(f".{out.name}.*-*"):
        match = re.fullmatch(rf"\.{re.escape(out.name)}\.(building|old)-(\d+)", path.name)
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
