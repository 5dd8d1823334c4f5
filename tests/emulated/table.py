"""Prints what the last `bash run.sh test --emulated` found, a row for each bundle and CPU, as Markdown.

python tests/emulated/table.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

if not __package__:  # started as a file: the repository root, not this folder, belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from mobilevlm.engines.decibels import EXACT_DB
from mobilevlm.engines.stages import FIRST_LOGITS, IMAGE_EMBEDS, LOGITS
from tests.emulated.cpus import CPUS, HERE, Cpu
from tests.emulated.install import CACHE

TENSORS = (IMAGE_EMBEDS, FIRST_LOGITS, LOGITS)  # of vision, of the prompt, of what follows it


def rows(cpu: Cpu) -> list[tuple[str, str, dict[str, float]]]:
    """Bundle, CPU and decibels by stage, of a CPU that was run."""
    path = CACHE / f"{cpu.name}.jsonl"
    if not path.is_file():
        return []
    _, *reports = map(json.loads, path.read_text().splitlines())
    return [(one["bundle"], cpu.name, one["decibels"]) for one in reports if "decibels" in one]


def shown(decibels: float | None) -> str:
    """A cell."""
    if decibels is None:
        return ""
    return "same bits" if decibels >= EXACT_DB else f"{decibels:.1f}"


def main() -> None:
    """Entry point."""
    found = sorted(row for cpu in (HERE, *CPUS) for row in rows(cpu))
    if not found:
        sys.exit("nothing was run yet: bash run.sh test --emulated")
    columns = [f"{tensor}, {reference}" for reference in ("PyTorch", "the build") for tensor in TENSORS]
    print(f"| bundle | CPU | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 2) + "|")
    for bundle, cpu, decibels in found:
        print(f"| {bundle} | {cpu} | {' | '.join(shown(decibels.get(column)) for column in columns)} |")


if __name__ == "__main__":
    main()
