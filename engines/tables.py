"""Tables as text, in Markdown: columns in line for a terminal, or without padding for a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence


def aligned_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Pads every cell to the width of its column.

    Args:
        header: names of the columns.
        rows: as many cells each.
        left: number of columns that are aligned to the left; figures, to the right.
    """
    widths = [max(len(line[column]) for line in [header, *rows]) for column in range(len(header))]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(markdown_row(_padded(line, widths, left)) for line in lines)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Leaves cells as they are.

    Args:
        header: names of the columns; empty where a column needs none.
        rows: as many cells each.
    """
    return "\n".join(markdown_lines(header, rows))


def markdown_lines(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yields the lines of `markdown_table`, for rows that are made one by one.

    Args:
        header: as of `markdown_table`.
        rows: as of `markdown_table`.
    """
    yield markdown_row(header)
    yield "|---" * len(header) + "|"
    yield from map(markdown_row, rows)


def markdown_row(cells: Sequence[str]) -> str:
    """Joins cells to a line."""
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)


def _padded(line: Sequence[str], widths: Sequence[int], left: int) -> list[str]:
    cells = zip(line, widths, strict=True)
    return [cell.ljust(width) if column < left else cell.rjust(width) for column, (cell, width) in enumerate(cells)]
