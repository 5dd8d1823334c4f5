"""Sizes and hashes of a bundle's files, checked without reading gigabytes at every start."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from mobilevlm.pages import read_in_large_pages

from .manifest import FileEntry
from .stages import MANIFEST_FILE, REPORT_FILE, weights_file

# Beside the files, not in the manifest: times and inodes belong to this copy of the bundle.
SEEN_FILE = ".seen.json"
# Machines that the bundle was found right on (`runtime/verdicts.py`).
CHECKED_FILE = ".checked.json"
# Not hashed: the report is for people, nothing runs from it, and an evaluation adds to it.
UNRECORDED = (MANIFEST_FILE, SEEN_FILE, CHECKED_FILE, REPORT_FILE)


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


def check_files(directory: Path, files: Mapping[str, FileEntry], error: Callable[[str], Exception]) -> None:
    """Compares files with their records; hashes those not seen unaltered before.

    Args:
        directory: of the bundle.
        files: records by name.
        error: makes the exception for a problem.

    Raises:
        Exception: `error(problem)`, naming every file that is missing or has another size, or the first altered one.
    """
    problems = [problem for name in files if (problem := _size_problem(directory / name, files[name]["size"]))]
    if problems:
        raise error("; ".join(problems))
    modified = {name: _modified(directory / name) for name in files}
    seen = _seen(directory)
    unseen = [name for name in files if seen.get(name) != modified[name]]
    for name in unseen:
        if _sha256(directory / name) != files[name]["sha256"]:
            raise error(f"{name} was altered (its sha256 is not the one in {MANIFEST_FILE})")
    if unseen:
        _remember(directory, modified)


def _size_problem(path: Path, size: int) -> str | None:
    if not path.is_file():
        return f"{path.name} is missing"
    here = path.stat().st_size
    return f"{path.name} has {here} bytes instead of {size}" if here != size else None


def _modified(path: Path) -> list[int]:
    """Values that change when a file is written, or is another copy."""
    stat = path.stat()
    return [stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _seen(directory: Path) -> dict[str, list[int]]:
    try:
        seen = json.loads((directory / SEEN_FILE).read_text())
    except (OSError, ValueError):
        return {}
    return seen if isinstance(seen, dict) else {}


def _remember(directory: Path, modified: dict[str, list[int]]) -> None:
    with contextlib.suppress(OSError):  # a read-only bundle is hashed at every start instead
        (directory / SEEN_FILE).write_text(json.dumps(modified))


def _entry(path: Path) -> FileEntry:
    return {"size": path.stat().st_size, "sha256": _sha256(path)}


def _sha256(path: Path) -> str:
    if path.suffix == weights_file(""):  # which are mapped and read whole
        read_in_large_pages(path)
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()
