"""Reads the official files of the benchmarks: JSON lines, JSON, and questions in LLaVA's form."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mobilevlm.datasets import DataSet
from mobilevlm.errors import UserError
from mobilevlm.rows.image_names import name_problem
from mobilevlm.text_file import decode_text, lone_surrogate, mark_of

from .task import Question


def read_jsonl(path: Path, source: str) -> Iterator[dict[str, Any]]:
    """Objects of a file with one JSON object on each line; blank lines are skipped. See `text_file` for encodings.

    Args:
        path: the file.
        source: who offers it, for the message if it is missing.

    Raises:
        UserError: the file cannot be read, or a line is no JSON object; raised when the iterator gets there.
    """
    for number, line in enumerate(lines_of(_content(path, source), path.name), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:  # also what UnicodeDecodeError is
            raise UserError(f"{path}, line {number} is no JSON ({error}). Download it again: {source}") from None
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number} is no JSON object. Download it again: {source}")
        yield row


def lines_of(content: bytes, name: str) -> list[bytes]:
    """Lines of a text file in UTF-8, without their ends; a file in UTF-16 or UTF-32 is made UTF-8 first.

    U+2028 and the like end no line in JSON lines. Where UTF-8 is damaged, it stays so in its line alone.

    Args:
        content: all of the file.
        name: of the file, for the message.

    Raises:
        EncodingError: it is in another encoding.
    """
    if mark_of(content)[1] != "utf-8" or 0 in content[:4]:
        content = decode_text(content, name).encode()
    return content.split(b"\n")


def read_json(path: Path, source: str) -> Any:
    """Content of a JSON file; see `text_file` for encodings.

    Args:
        path: the file.
        source: who offers it, for the message if it is missing.

    Raises:
        UserError: the file cannot be read, or is no JSON.
    """
    content = _content(path, source)
    try:
        return json.loads(decode_text(content, path.name))
    except (ValueError, RecursionError) as error:  # the message of json has the line
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
        refuse_unusable(row, f"{path}, row {number}", files.source)
    return rows


def refuse_unusable(row: Mapping[str, Any], where: str, source: str) -> None:
    """Refuses texts that no encoding has, and so neither a tokenizer nor the file of answers, and names of no file.

    Args:
        row: of a question file; its texts are looked at, and `image`.
        where: file and row, for the message.
        source: who offers the file.

    Raises:
        UserError: a text has a lone surrogate, or the image's name is none.
    """
    for name, text in row.items():
        if isinstance(text, str) and (half := lone_surrogate(text)):
            wrong = f"{name} has half a character ({half}, a lone surrogate)"
            raise UserError(f"{where}: {wrong}. Download it again: {source}")
    if row.get("image") and (problem := name_problem(row["image"])):
        raise UserError(f"{where}: {problem}. Download it again: {source}")


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
