"""Tables that people read and Markdown takes."""

from __future__ import annotations

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Columns in line: the first `left` of them to the left, the others to the right."""
    widths = [max(len(line[column]) for line in [header, *rows]) for column in range(len(header))]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join("| " + " | ".join(_aligned(line, widths, left)) + " |" for line in lines)


def _aligned(line: Sequence[str], widths: Sequence[int], left: int) -> list[str]:
    cells = zip(line, widths, strict=True)
    return [cell.ljust(width) if column < left else cell.rjust(width) for column, (cell, width) in enumerate(cells)]
