"""MMBench's table with pictures in it, read as pandas reads it for the original, and the workbook its scorer takes."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from mobilevlm.errors import UserError

Row = dict[str, str | None]

LETTERS = "ABCD"
COLUMNS = ("index", "question", "hint", *LETTERS, "answer", "category", "image")
_NOT_IN_WORKBOOK = {"hint", "category", "source", "image", "comment", "l2-category"}
_PREDICTION_COLUMN = 6
_LONGEST_CELL = 2**31 - 1  # what the csv module can be told on every system
# What pandas 2 takes for a missing cell.
_MISSING = set("#N/A #NA -1.#IND -1.#QNAN -NaN -nan 1.#IND 1.#QNAN <NA> N/A NA NULL NaN None n/a nan null".split())
_MISSING |= {"", "#N/A N/A"}


def read_table(path: Path, source: str) -> dict[int, Row]:
    """The rows by their index, in the order of the file; a missing cell is None.

    Args:
        path: values in UTF-8 separated by tabs, under a line of names, those of `COLUMNS` among them.
        source: who offers it, for the messages.

    Raises:
        UserError: the file cannot be read, a column is missing, or a row is damaged or has another's index.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing: download {source}")
    again = f"Download it again: {source}"
    rows: dict[int, Row] = {}
    limit = csv.field_size_limit(_LONGEST_CELL)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter="\t")
            header = next(reader, [])
            lacking = [name for name in COLUMNS if name not in header]
            if lacking:
                raise UserError(f"{path} has no column {', '.join(lacking)}. {again}")
            for cells in filter(None, reader):
                where = f"{path}, line {reader.line_num}"
                if len(cells) != len(header):
                    raise UserError(f"{where} has {len(cells)} cells, the first line {len(header)}. {again}")
                row = {name: None if cell in _MISSING else cell for name, cell in zip(header, cells, strict=True)}
                index = row["index"] or ""
                if not index.isdecimal() or int(index) in rows or row["question"] is None:
                    raise UserError(f"{where}: index {index!r} is none or a second one, or has no question. {again}")
                rows[int(index)] = row
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} cannot be read ({error}). {again}") from None
    finally:
        csv.field_size_limit(limit)
    return rows


def write_workbook(rows: Mapping[int, Row], predictions: Mapping[int, str], path: Path) -> None:
    """Write what the original's conversion writes: an .xlsx with the table and what was answered to each row.

    Raises:
        UserError: openpyxl is not installed.
    """
    try:
        from openpyxl import Workbook
        from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
    except ImportError:
        raise UserError('the workbook for MMBench needs openpyxl: pip install "mobilevlm[eval]"') from None
    header = [name for name in next(iter(rows.values()), COLUMNS) if name not in _NOT_IN_WORKBOOK]
    header.insert(_PREDICTION_COLUMN, "prediction")
    book = Workbook()
    sheet = book.active
    sheet.title = "Sheet1"  # as pandas calls it
    sheet.append(header)
    for number, (index, row) in enumerate(rows.items(), 2):
        cells = row | {"prediction": predictions.get(index)}
        for column, name in enumerate(header, 1):
            if name == "index":
                sheet.cell(number, column, index)
            elif cells[name]:
                # A workbook cannot hold control characters; and a text that begins with "=" is no formula.
                cell = sheet.cell(number, column, ILLEGAL_CHARACTERS_RE.sub("", cells[name]))
                cell.data_type = "s"
    book.save(path)


def options_of(row: Row) -> list[str]:
    """A row's options: those before the first that is missing or says that there is none."""
    options: list[str] = []
    for letter in LETTERS:
        if says_nothing(row[letter]):
            break
        options.append(row[letter])
    return options


def says_nothing(cell: str | None) -> bool:
    """Whether the original takes a cell for an empty one."""
    return cell is None or cell.lower() in ("nan", "none")
