"""Readers of plain text: .txt, .jsonl with a `text`, LLaVA-style JSON with conversations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from mobilevlm.errors import UserError
from mobilevlm.text_file import lone_surrogate, looks_like, open_text, read_text

from .lazy_rows import LazyRows

MARKER = "<image>"


def read_texts(path: Path) -> Iterator[str]:
    """Yields the texts of a file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark.

    Args:
        path: `.txt` (the whole file is one text), `.jsonl` (an object with `text` per line), or `.json` (a list of
            rows with `conversations`, whose turns are joined, image tokens left out).

    Raises:
        UserError: the file is missing or of no such form; the message names file and line or row.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist")
    readers = {".txt": _whole, ".jsonl": _lines, ".json": _rows}
    if path.suffix.lower() not in readers:
        raise UserError(f"{path}: texts come as .txt, .jsonl or .json")
    yield from readers[path.suffix.lower()](path)


def _whole(path: Path) -> Iterator[str]:
    yield read_text(path).replace("\r\n", "\n").replace("\r", "\n")  # line ends as `open` has them


def _lines(path: Path) -> Iterator[str]:
    number = 0
    try:
        with open_text(path) as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _text_of(line, f"{path}, line {number}")
    except UnicodeDecodeError as error:
        found = looks_like(error.object)
        raise UserError(f"{path} is not UTF-8 text behind line {number}; it looks like {found}") from None


def _text_of(line: str, where: str) -> str:
    try:
        text = json.loads(line)["text"]
    except (ValueError, KeyError, TypeError, RecursionError):
        text = None
    if not isinstance(text, str):
        raise UserError(f"{where} is no JSON object with a `text`")
    return _whole_characters(text, where)


def _rows(path: Path) -> Iterator[str]:
    for number, row in enumerate(LazyRows(path)):
        try:
            turns = [turn["value"] for turn in row["conversations"]]
            text = "\n".join(turn.replace(MARKER, "").strip() for turn in turns)
        except (KeyError, TypeError, AttributeError):
            raise UserError(f"{path}, row {number} has no `conversations` with values") from None
        yield _whole_characters(text, f"{path}, row {number}")


def _whole_characters(text: str, where: str) -> str:
    if half := lone_surrogate(text):
        raise UserError(f"{where} has half a character ({half}, a lone surrogate): write the whole one or leave it out")
    return text
