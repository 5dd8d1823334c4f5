"""Compares an open bundle's files with its manifest again: what rots on the disk changes neither time nor size.

A file's blocks are compared as they are read, so that damage is found early and named with its place.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

from .disk import forget_cached, read_from_disk
from .integrity import BLOCK_BYTES, distrust, problem_of
from .json_file import open_regular, read_json_file
from .manifest import FileEntry, Manifest, seal_of
from .stages import MANIFEST_FILE


class DamageError(ValueError):
    """A file that is not what the manifest says.

    Args:
        name: of the file.
        problem: that it has, and where; names the file.
    """

    def __init__(self, name: str, problem: str):
        super().__init__(problem)
        self.name = name


def add_scrub(parser: argparse.ArgumentParser) -> None:
    """Adds `--no-scrub` to a command that keeps a bundle open."""
    parser.add_argument(
        "--no-scrub", action="store_true", help="do not read the bundle's files again while it is open, to notice rot"
    )


def scrub(directory: Path, manifest: Manifest) -> Iterator[None]:
    """Reads all files of a bundle once; yields after each slice, so that the caller can wait in between.

    Args:
        directory: of the bundle.
        manifest: of the bundle as it was opened.

    Raises:
        DamageError: a file is missing, unreadable or altered.
    """
    name = MANIFEST_FILE
    try:
        raw = read_json_file(directory / name)[0]
        if not isinstance(raw, dict) or raw.get("seal") != seal_of(raw):
            raise ValueError("its seal is not that of its content")
        yield
        for name, record in manifest.files.items():
            if name in manifest.spare and not (directory / name).exists():
                continue
            if problem := problem_of(directory / name, record["size"]):
                raise DamageError(name, problem)
            yield from _compare(directory, name, record)
    except DamageError:
        raise
    except (OSError, ValueError) as error:
        what = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise DamageError(name, f"{name} cannot be read ({what})") from None


def is_replaced(directory: Path, manifest: Manifest, name: str) -> bool:
    """Whether a file was replaced on purpose: the bundle is gone, or another manifest has another record of it.

    Args:
        directory: of the bundle.
        manifest: of the bundle as it was opened.
        name: of the file.
    """
    try:
        raw = read_json_file(directory / MANIFEST_FILE)[0]
        return bool(raw["seal"] == seal_of(raw) and raw["files"].get(name) != manifest.files.get(name))
    except FileNotFoundError:
        return True
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return False


def distrust_file(directory: Path, name: str) -> None:
    """Makes the next opening of a bundle read a file from the disk and hash it.

    Args:
        directory: of the bundle.
        name: of the file.
    """
    distrust(directory, name)
    with contextlib.suppress(OSError), open_regular(directory / name) as file:
        forget_cached(file)


def _compare(directory: Path, name: str, record: FileEntry) -> Iterator[None]:
    """Compares a file's blocks with their records; yields after each slice.

    Args:
        directory: of the bundle.
        name: of the file.
        record: of the file.

    Raises:
        DamageError: a block is altered.
        OSError: the file cannot be read.
    """
    blocks, size = record.get("blocks"), record["size"]
    expected, length = (blocks, BLOCK_BYTES) if blocks else ([record["sha256"]], size)
    block, digest, at = 0, hashlib.sha256(), 0
    for part in read_from_disk(directory / name):
        digest.update(part)
        at += len(part)
        if at == size or at == (block + 1) * length:
            if digest.hexdigest() != expected[block]:
                break
            block, digest = block + 1, hashlib.sha256()
        yield
    if size and block < len(expected):
        place = f"in bytes {block * length} to {min(size, (block + 1) * length) - 1} " if blocks else ""
        raise DamageError(name, f"{name} was altered on the disk {place}(its sha256 is not the one in {MANIFEST_FILE})")
