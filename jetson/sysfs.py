"""Reads the system's small files, below a root that is `/` on a board and a copied tree elsewhere."""

from __future__ import annotations

from pathlib import Path

ROOT = Path("/")


def read(root: Path, name: str) -> str | None:
    """Returns a file's text without NUL bytes and outer white space; None where it is missing or may not be read.

    Its existence is not asked for first: below a directory that only root may enter, that is an error, too.

    Args:
        root: `/`, or where a tree was copied to.
        name: the path on the board, with or without its first slash.
    """
    try:
        return (root / name.lstrip("/")).read_text(errors="replace").replace("\0", " ").strip()
    except OSError:
        return None


def number(root: Path, name: str) -> int | None:
    """Returns the integer that a file holds; None where it is missing, may not be read, or holds something else.

    Args:
        root: as of `read`.
        name: as of `read`.
    """
    text = read(root, name)
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None


def matches(root: Path, pattern: str) -> list[str]:
    """Returns paths on the board that match a pattern, sorted; none where directories may not be read.

    Args:
        root: as of `read`.
        pattern: glob pattern, with or without its first slash.
    """
    try:
        found = sorted(root.glob(pattern.lstrip("/")))
    except OSError:
        return []
    return [str(path.relative_to(root)) for path in found]
