"""Prints what the last `bash run.sh test --emulated` found, a row for each bundle and CPU, as Markdown.

python tests/emulated/table.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

if not __package__:  # started as a file: the repository root, not this folder, belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from tests.emulated.cpus import CPUS, HERE, Cpu
from tests.emulated.install import CACHE


def rows(cpu: Cpu) -> list[tuple[str, str, dict[str, float]]]:
    """Bundle, CPU and decibels by stage, of a CPU that was run."""
    path = CACHE / f"{cpu.name}.jsonl"
    if not path.is_file():
        return []
    _, *reports = map(json.loads, path.read_text().splitlines())
    return [(one["bundle"], cpu.name, one["decibels"]) for one in reports if "decibels" in one]


def main() -> None:
    """Entry point."""
    found = sorted(row for cpu in (HERE, *CPUS) for row in rows(cpu))
    if not found:
        sys.exit("nothing was run yet: bash run.sh test --emulated")
    stages = list(found[0][2])
    print(f"| bundle | CPU | {' | '.join(stages)} |")
    print("|---" * (len(stages) + 2) + "|")
    for bundle, cpu, decibels in found:
        print(f"| {bundle} | {cpu} | {' | '.join(f'{decibels[stage]:.1f}' for stage in stages)} |")


if __name__ == "__main__":
    main()
