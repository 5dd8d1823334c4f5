"""Readers of plain text: .txt, .jsonl with a `text`, LLaVA-style JSON with conversations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from mobilevlm.errors import UserError

from .lazy_rows import LazyRows

MARKER = "<image>"


def read_texts(path: Path) -> Iterator[str]:
    """Yields the texts of a file.

    Args:
        path: `.txt` (the whole file is one text), `.jsonl` (an object with `text` per line), or `.json` (a list of
            rows with `conversations`, whose turns are joined, image tokens left out).

    Raises:
        UserError: the file is missing or of no such form; the message names file and line or row.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist")
    readers = {".txt": _whole, ".jsonl": _lines, ".json": _rows}
    if path.suffix not in readers:
        raise UserError(f"{path}: texts come as .txt, .jsonl or .json")
    try:
        yield from readers[path.suffix](path)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error}") from None


def _whole(path: Path) -> Iterator[str]:
    yield path.read_text(encoding="utf-8")


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                text = json.loads(line)["text"]
            except (ValueError, KeyError, TypeError):
                text = None
            if not isinstance(text, str):
                raise UserError(f"{path}, line {number} is no JSON object with a `text`")
            yield text


def _rows(path: Path) -> Iterator[str]:
    for number, row in enumerate(LazyRows(path)):
        try:
            turns = [turn["value"] for turn in row["conversations"]]
            yield "\n".join(turn.replace(MARKER, "").strip() for turn in turns)
        except (KeyError, TypeError, AttributeError):
            raise UserError(f"{path}, row {number} has no `conversations` with values") from None
