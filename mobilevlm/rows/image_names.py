"""Image names as people's files have them: those that cannot be a path, and what a missing one probably means."""

from __future__ import annotations

import os
import re
import unicodedata
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

from ..text_file import lone_surrogate

_ADDRESS = re.compile(r"(?i)(https?|ftp|s3|gs|file|data):")
_LONGEST_NAME = 255  # bytes of a file's or folder's name, on the usual file systems
_LONGEST_PATH = 1024
_ENDINGS = (".jpg", ".JPG", ".jpeg", ".png", ".gif", ".webp")


def name_problem(name: str) -> str | None:
    """Problem of a name that no file can have, in words; None if there is none."""
    if found := _ADDRESS.match(name):
        kind = "holds the image itself" if found[1].lower() == "data" else "is an address"
        return f"image {kind} ({name[:40]!a}): save it as a file and name that"
    if half := lone_surrogate(name):
        return f"image has half a character in its name ({half})"
    if "\0" in name:
        return "image has a NUL in its name"
    if len(name.encode()) > _LONGEST_PATH or any(len(part.encode()) > _LONGEST_NAME for part in name.split("/")):
        said = f"image is a text of {len(name)} characters, not a path"
        return f"{said}: if it is an image in base64, save it as a file and name that"
    return None


class Folder:
    """Names of a folder's files, and of the links that lead to one; none if there is no such folder, or no leave."""

    def __init__(self, path: Path):
        """Lists the folder once."""
        try:
            with os.scandir(path) as entries:
                self.names = {entry.name for entry in entries if entry.is_file()}
        except OSError:
            self.names = set()
        self._folded: dict[str, str] | None = None

    def hint(self, name: str) -> str:
        """Hint at the file that a missing one of this name was probably meant to be; empty if there is none.

        OCR-VQA's images come as .gif and .png too and are named as .jpg; macOS writes names in NFD.
        """
        stem = name.rpartition(".")[0]
        likely = [*(stem + ending for ending in _ENDINGS), name.lower(), unquote(name), name.strip()]
        if found := next((other for other in likely if other in self.names), None):
            return f"there is {found}"
        if self._folded is None:  # made once: a folder may lack a hundred thousand
            self._folded = {_folded(other): other for other in self.names}
        found = self._folded.get(_folded(name))
        if found is None:
            return ""
        same = unicodedata.normalize("NFC", found) == unicodedata.normalize("NFC", name)
        return f"there is {found}" + (", in another Unicode form (NFC or NFD)" if same else "")


def missing_hint(name: str, images: Path) -> str:
    """Hint at the file that is probably meant where the one of this name is missing; empty if there is none.

    Args:
        name: as the row has it.
        images: folder that the name starts from.
    """
    forward = name.replace("\\", "/")
    if forward != name and (images / forward).is_file():
        return f"there is {forward}: write / instead of \\"
    last = forward.rpartition("/")[2]
    if last and last != name and (images / last).is_file():
        return f"there is {last}"
    path = images / name
    return _listed(path.parent).hint(path.name)


@lru_cache(maxsize=8)
def _listed(folder: Path) -> Folder:
    return Folder(folder)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
