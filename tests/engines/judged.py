"""`engines/judge.py` in a process of its own, so that its memory goes back: what its table says, cell by cell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

MINUTES = 60


def environment(site: Path | None) -> dict[str, str]:
    """Of a process that finds TensorRT-RTX in a folder first; None for the installed one."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *([str(site)] if site else [])])}


def judged(directory: Path, *options: str, site: Path | None = None) -> tuple[list[dict[str, str]], str]:
    """Rows by the names of their columns, and what it said on stderr."""
    command = [sys.executable, ROOT / "engines" / "judge.py", directory, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20 * MINUTES, env=environment(site))
    assert done.returncode in (0, 2) and "Traceback" not in done.stderr, done.stderr
    header, _, *lines = (_cells(line) for line in done.stdout.splitlines())
    assert all(len(line) == len(header) for line in lines)
    return [dict(zip(header, line, strict=True)) for line in lines], done.stderr


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line[1:-1].split("|")]


def numbers(cell: str) -> list[int]:
    """Of a cell like `63, 58`."""
    return [int(one) for one in cell.split(",")]


def products(cell: str) -> dict[str, int]:
    """Of a cell like `24 Int4, 1 Half`: how many by type."""
    return {kind: int(number) for number, kind in (one.split() for one in cell.split(","))}


def weights_of_disk(row: dict[str, str]) -> float:
    """Memory of an engine's weights as a share of their size on disk."""
    return float(row["weights, MB"]) / float(row["on disk, MB"])
