"""Writes the six benchmarks about demo scenes, in their official formats, from scenes that nothing else uses.

python train/demo/make_benchmarks.py --out data/demo
python train/demo/make_benchmarks.py --out data/demo-small --questions 20
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from mobilevlm.commands import run_command
from mobilevlm.errors import UserError, user_path
from mobilevlm.train.demo.benchmarks.gqa import write_gqa
from mobilevlm.train.demo.benchmarks.mmbench import write_mmbench
from mobilevlm.train.demo.benchmarks.mme import write_mme
from mobilevlm.train.demo.benchmarks.pope import write_pope
from mobilevlm.train.demo.benchmarks.rows import EDGES
from mobilevlm.train.demo.benchmarks.sqa import write_sqa
from mobilevlm.train.demo.benchmarks.textvqa import write_textvqa
from mobilevlm.train.demo.version import generator

FOLDER = "benchmark_data"
MOST = 5_000  # numbers of scenes are MMBench's indexes, which have to stay below a million
WRITERS: dict[str, Callable[[Path, int], None]] = {
    "gqa": write_gqa,
    "mmbench": write_mmbench,
    "mme": write_mme,
    "pope": write_pope,
    "sqa": write_sqa,
    "textvqa": write_textvqa,
}


def parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    self = argparse.ArgumentParser(
        prog="make_benchmarks.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    self.add_argument("--out", required=True, metavar="DIR", help=f"gets {FOLDER}/; what is there already is kept")
    self.add_argument(
        "--questions",
        type=int,
        default=200,
        metavar="N",
        help="in each benchmark, about; MMBench repeats each with rotated options (default: %(default)s)",
    )
    return self


def _make(args: argparse.Namespace) -> None:
    if not 1 <= args.questions <= MOST:
        raise UserError(f"--questions is {args.questions}; it has to be from 1 to {MOST}")
    make_benchmarks(user_path(args.out), args.questions)


def make_benchmarks(out: Path, questions: int) -> None:
    """Writes `benchmark_data/` with a directory for each benchmark, and `sizes.json` last.

    A finished directory of the same size is kept as it is. A run that is killed leaves `benchmark_data.unfinished`,
    which the next one removes.

    Args:
        out: directory that `benchmark_data/` is written into.
        questions: approximate number of questions in each benchmark.

    Raises:
        UserError: something else has that name, or the benchmarks are of another version of this generator.
    """
    sizes = json.dumps({"questions": questions, "edges": list(EDGES), "generator": generator()}) + "\n"
    data, building = out / FOLDER, out / f"{FOLDER}.unfinished"
    done = data / "sizes.json"
    if data.exists():
        held = done.read_text(errors="replace").strip() if done.is_file() else "no sizes.json"
        if held != sizes.strip():
            raise UserError(f"{data} holds something else ({held}, wanted {sizes.strip()}): move or remove it first")
        return
    if building.exists():
        shutil.rmtree(building)
    for name, write in WRITERS.items():
        write(building / name, questions)
    (building / done.name).write_text(sizes)
    building.rename(data)


def main() -> None:
    """Entry point of the command."""
    run_command(parser(), _make)


if __name__ == "__main__":
    main()
