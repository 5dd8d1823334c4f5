"""A file that is replaced whole: a process killed at any moment leaves the old content or the new."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def write_whole(path: Path, content: Any, like: Path | None = None) -> None:
    """Write a file under another name beside it, put it on the disk, then rename it.

    Args:
        path: of the file; what a killed call left behind, at `path` with `.partial` added, is written over.
        content: bytes.
        like: a file whose owner and mode the new one gets; None for those of any new file.

    Raises:
        OSError: the folder cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(content)
        if like is not None:
            known = like.stat()
            os.fchown(file.fileno(), known.st_uid, known.st_gid)
            os.fchmod(file.fileno(), known.st_mode & 0o7777)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    if os.name != "posix":  # elsewhere folders cannot be opened
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name, too
    finally:
        os.close(folder)
