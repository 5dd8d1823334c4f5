"""Recognises what a download leaves in a file's place: a git-lfs pointer, a web page, an empty file."""

from __future__ import annotations

from pathlib import Path

LFS = b"version https://git-lfs.github.com/spec/"
PAGES = (b"<!doctype html", b"<html", b"<?xml")


def stand_in(path: Path) -> str | None:
    """Sentence on what lies in a file's place, with the remedy; None where nothing speaks against it.

    Args:
        path: an existing file.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(LFS):
        size = path.stat().st_size
        return f"{path} ({size} bytes) is a git-lfs pointer, not the file itself: run `git lfs pull` in {path.parent}"
    if start.lower().startswith(PAGES):
        size = path.stat().st_size
        remedy = "download the raw file again (a login may be needed; in a clone, `git lfs pull`)"
        return f"{path} ({size} bytes) is a web page, not the file itself: {remedy}"
    return None
