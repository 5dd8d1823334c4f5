"""Sizes and hashes of a bundle's files, checked without reading gigabytes at every start."""

from __future__ import annotations

import contextlib
import hashlib
import json
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated

from mobilevlm.atomic_file import SUFFIX, write_whole
from mobilevlm.pages import read_in_large_pages

from .json_file import open_regular, read_json_file
from .manifest import FileEntry
from .stages import MANIFEST_FILE, NEXT_SIGNATURE_FILE, REPORT_FILE, SIGNATURE_FILE, weights_file
from .typed_json import Length, typed

# Beside the files, not in the manifest: times and inodes belong to this copy of the bundle.
SEEN_FILE = ".seen.json"
# Machines that the bundle was found right on (`runtime/verdicts.py`).
CHECKED_FILE = ".checked.json"
# Not hashed: the report is for people, nothing runs from it, and an evaluation adds to it.
UNRECORDED = (MANIFEST_FILE, SIGNATURE_FILE, NEXT_SIGNATURE_FILE, SEEN_FILE, CHECKED_FILE, REPORT_FILE)
READ_BYTES = 1 << 22  # at a time
BLOCK_BYTES = 1 << 24  # of a file that have a hash of their own; a multiple of what is read at a time
Seen = dict[str, Annotated[list[int], Length(3)]]


def is_leftover(name: str) -> bool:
    """Tells whether a file is what a killed process left of a file that belongs to this copy of the bundle."""
    return name.startswith((f"{SEEN_FILE}.", f"{CHECKED_FILE}.")) and name.endswith(SUFFIX)


def record_files(directory: Path) -> dict[str, FileEntry]:
    """Returns size and hash of every file in a bundle being built, by name."""
    paths = sorted(path for path in directory.iterdir() if path.name not in UNRECORDED)
    records = {path.name: _entry(path) for path in paths}
    _remember(directory, {name: _modified(directory / name) for name in records})
    return records


def record_more(directory: Path, names: Iterable[str]) -> dict[str, FileEntry]:
    """Returns size and hash of files that were added to a finished bundle.

    Args:
        directory: of the bundle.
        names: of the new files.
    """
    records = {name: _entry(directory / name) for name in names}
    _remember(directory, _seen(directory) | {name: _modified(directory / name) for name in records})
    return records


def check_files(
    directory: Path, files: Mapping[str, FileEntry], error: Callable[[str], Exception], every: bool = False
) -> None:
    """Compares files with their records; hashes those not seen unaltered before.

    Args:
        directory: of the bundle.
        files: records by name.
        error: makes the exception for a problem.
        every: whether all are hashed, whatever was seen before.

    Raises:
        Exception: `error(problem)`, naming every file that is missing, of another size, no regular file or a link out
            of the bundle, or the first altered one.
    """
    problems = [problem for name in files if (problem := problem_of(directory / name, files[name]["size"]))]
    if problems:
        raise error("; ".join(problems))
    modified = {name: _modified(directory / name) for name in files}
    seen = {} if every else _seen(directory)
    unseen = [name for name in files if seen.get(name) != modified[name]]
    for name in unseen:
        if _sha256(directory / name) != files[name]["sha256"]:
            raise error(f"{name} was altered (its sha256 is not the one in {MANIFEST_FILE})")
    if unseen:
        _remember(directory, modified)


def problem_of(path: Path, size: int) -> str | None:
    """Returns what is wrong with a file before it is read; None where nothing is.

    Args:
        path: of a file of a bundle.
        size: number of bytes that it should have.
    """
    try:
        if path.is_symlink() and not path.resolve(strict=True).is_relative_to(path.parent.resolve()):
            return f"{path.name} is a link out of the bundle (cp -rL copies what links lead to)"
        found = path.stat()
    except FileNotFoundError:
        return f"{path.name} is missing"
    except (OSError, RuntimeError):  # the latter is how Python 3.10 to 3.12 say that links go in a circle
        return f"{path.name} cannot be read"
    if not stat.S_ISREG(found.st_mode):
        return f"{path.name} is no regular file"
    return f"{path.name} has {found.st_size} bytes instead of {size}" if found.st_size != size else None


def distrust(directory: Path, name: str) -> None:
    """Forgets that a file was seen unaltered: it is hashed when the bundle is opened again.

    Args:
        directory: of the bundle.
        name: of the file.
    """
    seen = _seen(directory)
    if seen.pop(name, None):
        _remember(directory, seen)


def _modified(path: Path) -> list[int]:
    """Values that change when a file is written, or is another copy."""
    stat = path.stat()
    return [stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _seen(directory: Path) -> Seen:
    try:
        return typed(Seen, read_json_file(directory / SEEN_FILE)[0])
    except (OSError, ValueError):  # it is made again
        return {}


def _remember(directory: Path, modified: dict[str, list[int]]) -> None:
    with contextlib.suppress(OSError):  # a read-only bundle is hashed at every start instead
        write_whole(directory / SEEN_FILE, json.dumps(modified).encode(), shared=True)


def _entry(path: Path) -> FileEntry:
    blocks = _Blocks()
    entry: FileEntry = {"size": path.stat().st_size, "sha256": _sha256(path, blocks.update)}
    if entry["size"] > BLOCK_BYTES:
        entry["blocks"] = blocks.digests()
    return entry


class _Blocks:
    """Hashes of a file's blocks, computed while it is read."""

    def __init__(self) -> None:
        self._open, self._bytes = hashlib.sha256(), 0
        self._done: list[str] = []

    def update(self, content: bytes) -> None:
        """Takes the next bytes, which do not go beyond the end of a block."""
        self._open.update(content)
        self._bytes += len(content)
        if self._bytes == BLOCK_BYTES:
            self._done.append(self._open.hexdigest())
            self._open, self._bytes = hashlib.sha256(), 0

    def digests(self) -> list[str]:
        """Returns the hashes of all blocks, the last of which may be shorter."""
        return self._done + [self._open.hexdigest()] * (self._bytes > 0)


def _sha256(path: Path, on_read: Callable[[bytes], object] = lambda content: None) -> str:
    """Hashes a file.

    Args:
        path: of the file.
        on_read: called with the bytes of each part of it, which do not go beyond the end of a block.
    """
    if path.suffix == weights_file(""):  # which are mapped and read whole
        read_in_large_pages(path)
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while part := file.read(READ_BYTES):
            digest.update(part)
            on_read(part)
    return digest.hexdigest()
