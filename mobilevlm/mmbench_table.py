"""Reads MMBench's table, which has images in it, as pandas reads it for the original. Needs no PyTorch."""

from __future__ import annotations

import base64
import csv
import re
from collections.abc import Mapping
from pathlib import Path

from .errors import UserError
from .text_file import open_text

Row = dict[str, str | None]

LETTERS = "ABCD"
COLUMNS = ("index", "question", "hint", *LETTERS, "answer", "category", "image")
_LONGEST_CELL = 2**31 - 1  # what the csv module can be told on every system
_LONGEST_REFERENCE = 64
# What pandas 2 takes for a missing cell.
_MISSING = set("#N/A #NA -1.#IND -1.#QNAN -NaN -nan 1.#IND 1.#QNAN <NA> N/A NA NULL NaN None n/a nan null".split())
_MISSING |= {"", "#N/A N/A"}


class TableError(UserError):
    """A table, or an image in it, that cannot be read; the message does not name the file."""


def read_table(path: Path) -> dict[int, Row]:
    """Rows by their index, in the order of the file; a missing cell is None.

    Args:
        path: values separated by tabs, in UTF-8, or in UTF-16 or UTF-32 with a byte order mark, under a line of names,
            those of `COLUMNS` among them.

    Raises:
        TableError: the file cannot be read, a column is missing, or a row is damaged or has another's index.
    """
    rows: dict[int, Row] = {}
    limit = csv.field_size_limit(_LONGEST_CELL)
    try:
        with open_text(path) as file:
            reader = csv.reader(file, delimiter="\t")
            header = next(reader, [])
            lacking = [name for name in COLUMNS if name not in header]
            if lacking:
                raise TableError(f"has no column {', '.join(lacking)}")
            for cells in filter(None, reader):
                where = f"is broken: line {reader.line_num}"
                if len(cells) != len(header):
                    raise TableError(f"{where} has {len(cells)} cells, the first line {len(header)}")
                row = {name: _cell(cell) for name, cell in zip(header, cells, strict=True)}
                index = re.sub(r"\.0+$", "", row["index"] or "")  # tables that pandas wrote anew may have 7.0 for 7
                if not index.isdecimal() or int(index) in rows or row["question"] is None:
                    raise TableError(f"{where}: index {index!r} is none or a second one, or has no question")
                rows[int(index)] = row
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise TableError(f"cannot be read ({error})") from None
    finally:
        csv.field_size_limit(limit)
    return rows


def _cell(text: str) -> str | None:
    """Text of a cell; line ends of Windows in it are not the table's."""
    return None if text in _MISSING else text.replace("\r\n", "\n")


def picture_of(index: int, rows: Mapping[int, Row]) -> bytes:
    """Image file of a row, decoded from its `image` cell or from that of the row which the cell names.

    Some releases of MMBench hold each image once: copies of a question have the index of the row that has it.

    Args:
        index: of the row.
        rows: of the whole table, see `read_table`.

    Raises:
        TableError: the cell is neither base64 nor the index of a row.
    """
    cell = rows[index]["image"] or ""
    if cell.isdecimal() and len(cell) <= _LONGEST_REFERENCE:
        if int(cell) not in rows:
            raise TableError(f"its image is that of row {cell}, which is not there")
        cell = rows[int(cell)]["image"] or ""
    try:
        content = base64.b64decode(cell)
    except ValueError:
        content = b""
    if not content:
        raise TableError("its image is no base64")
    return content
