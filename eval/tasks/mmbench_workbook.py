"""Writes the workbook for MMBench's scorer and server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mobilevlm.mmbench_table import COLUMNS, Row
from mobilevlm.packages import require

_LEFT_OUT = {"hint", "category", "source", "image", "comment", "l2-category"}
_PREDICTION_COLUMN = 6


def write_workbook(rows: Mapping[int, Row], predictions: Mapping[int, str], path: Path) -> None:
    """Write an .xlsx with the table and the answer to each row, as the original's conversion does.

    Args:
        rows: of the table, by index, see `read_table`.
        predictions: answers by index.
        path: of the file.

    Raises:
        UserError: openpyxl is not installed.
    """
    require("the workbook for MMBench", "openpyxl")
    from openpyxl import Workbook
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

    header = [name for name in next(iter(rows.values()), COLUMNS) if name not in _LEFT_OUT]
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
