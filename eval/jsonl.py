"""Reads the official files of the benchmarks: JSON lines, JSON, and questions in LLaVA's form."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mobilevlm.datasets import DataSet
from mobilevlm.errors import UserError

from .task import Question


def read_jsonl(path: Path, source: str) -> Iterator[dict[str, Any]]:
    """Objects of a UTF-8 file with one JSON object on each line; blank lines are skipped.

    Args:
        path: the file.
        source: who offers it, for the message if it is missing.

    Raises:
        UserError: the file cannot be read, or a line is no JSON object; raised when the iterator gets there.
    """
    for number, line in enumerate(_content(path, source).split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8-sig"))
        except ValueError as error:  # also what UnicodeDecodeError is
            raise UserError(f"{path}, line {number} is no JSON ({error}). Download it again: {source}") from None
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number} is no JSON object. Download it again: {source}")
        yield row


def read_json(path: Path, source: str) -> Any:
    """Content of a JSON file in UTF-8.

    Args:
        path: the file.
        source: who offers it, for the message if it is missing.

    Raises:
        UserError: the file cannot be read, or is no JSON.
    """
    content = _content(path, source)
    try:
        return json.loads(content.decode("utf-8-sig"))
    except ValueError as error:  # the message of json has the line
        raise UserError(f"{path} is no JSON ({error}). Download it again: {source}") from None


def read_rows(files: DataSet, data: Path) -> list[dict[str, Any]]:
    """Rows of a question file in LLaVA's form, each `{question_id, image, text, ...}`.

    Args:
        files: where they are, see `Task.files`.
        data: the directory that has `benchmark_data`.

    Raises:
        UserError: as of `read_jsonl`, or a row lacks one of the three fields or has another type in it.
    """
    path = data / files.annotations
    rows = list(read_jsonl(path, files.source))
    for number, row in enumerate(rows):
        for name, kind in {"question_id": str | int, "image": str, "text": str}.items():
            if not isinstance(row.get(name), kind):
                raise UserError(f"{path}, row {number}: {name} is {row.get(name)!r}. Download it again: {files.source}")
    return rows


def read_questions(files: DataSet, data: Path) -> list[Question]:
    """Questions of a question file in LLaVA's form, to be asked as they stand.

    Args:
        files: where they are, see `Task.files`.
        data: the directory that has `benchmark_data`.

    Raises:
        UserError: as of `read_rows`.
    """
    images = data / (files.images or "")
    return [
        Question(row["question_id"], row["text"], images / row["image"], prompt=row["text"])
        for row in read_rows(files, data)
    ]


def _content(path: Path, source: str) -> bytes:
    if not path.is_file():
        raise UserError(f"{path} is missing: download {source}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
