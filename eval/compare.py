"""Compares evaluation runs: the accuracy that a precision costs.

python eval/compare.py artifacts/eval/demo artifacts/eval/demo-int8 artifacts/eval/demo-int4

The first run is the reference. For each other one: the share of identical answers, the difference of the scores, and
the interval that holds this difference in 95 % of paired bootstrap samples of the questions. Writes compare.md,
compare.json and compare.png to --out, and a section into the `report.md` of every bundle among the others.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

if not __package__:  # started as a file: the repository root, not this folder, belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from mobilevlm.commands import command, run_command
from mobilevlm.engines.bundle import is_bundle
from mobilevlm.errors import UserError, user_path
from mobilevlm.eval.answers import WHOLE, read_answers
from mobilevlm.eval.bootstrap import interval
from mobilevlm.eval.compare_report import plot, render, tell_bundle
from mobilevlm.eval.difference import Difference
from mobilevlm.eval.report import read_run
from mobilevlm.eval.task import Answer, Counts, Task
from mobilevlm.eval.tasks import TASKS
from mobilevlm.packages import require


def parser() -> argparse.ArgumentParser:
    """Command line of the comparison."""
    self = argparse.ArgumentParser(
        prog="compare.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    self.add_argument("runs", nargs="+", metavar="RUN", help="directories of runs; the reference first")
    self.add_argument("--out", default="artifacts/compare", metavar="DIR", help="(default: %(default)s)")
    return self


def compare(args: argparse.Namespace) -> None:
    """Compare runs, write the reports and print the table.

    Raises:
        UserError: fewer than two runs, runs that answered different questions or none, or matplotlib is missing.
    """
    require("the plot", "matplotlib")
    if len(args.runs) < 2:
        raise UserError("give two runs at least: the reference, and what is compared with it")
    runs = [user_path(run) for run in args.runs]
    described = [read_run(run) for run in runs]
    names = _names(runs)
    data = Path(described[0]["data"])
    shared = [task for task in TASKS.values() if all((run / task.name / WHOLE).is_file() for run in runs)]
    if not shared:
        raise UserError("there is no benchmark that all of these runs have answers for")
    found = [difference for task in shared for difference in _compare(task, data, runs, names)]
    out = user_path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    table = render(found, names)
    (out / "compare.md").write_text(table + "\n")
    (out / "compare.json").write_text(json.dumps([asdict(difference) for difference in found], indent=2) + "\n")
    print(table)
    plot(found, names, out / "compare.png")
    for name, run in list(zip(names, described, strict=True))[1:]:
        if "engine" not in run:
            continue
        if is_bundle(Path(run["engine"])):
            tell_bundle(Path(run["engine"]), [d for d in found if d.run in (names[0], name)], names[0])
        else:
            print(f"{name}: its bundle is no longer at {run['engine']}, whose report is left out", file=sys.stderr)


def _names(runs: Sequence[Path]) -> list[str]:
    """Names of the runs: those of their directories, or the whole paths where two names are the same."""
    short = [run.resolve().name for run in runs]
    return short if len(set(short)) == len(short) else [str(run) for run in runs]


def _compare(task: Task, data: Path, runs: Sequence[Path], names: Sequence[str]) -> list[Difference]:
    """Differences of all runs on one benchmark, the reference's own first."""
    answers = [list(read_answers(run / task.name / WHOLE)) for run in runs]
    for name, theirs in zip(names, answers, strict=True):
        if [(answer.id, answer.prompt) for answer in theirs] != [(answer.id, answer.prompt) for answer in answers[0]]:
            raise UserError(
                f"{task.title}: {names[0]} has {len(answers[0])} answers and {name} {len(theirs)}, not to the same "
                "questions: run both with the same --data and --limit"
            )
    counts = [task.counts(data, theirs) for theirs in answers]
    if not counts[0].ids:
        again = command("eval/run.py")
        raise UserError(f"{task.title}: there is no answer to compare yet: finish both runs of `{again}` first")
    each = zip(names, answers, counts, strict=True)
    return [_difference(task, name, answers[0], theirs, counts[0], own) for name, theirs, own in each]


def _difference(
    task: Task, name: str, reference: Sequence[Answer], answers: Sequence[Answer], before: Counts, after: Counts
) -> Difference:
    """Difference of one run from the reference, on one benchmark."""

    def headline(total: dict[str, float]) -> float:
        return task.metrics(total)[task.headline]

    same = [a.text == b.text and a.failed == b.failed for a, b in zip(reference, answers, strict=True)]
    total = after.total()
    score, n = headline(total), task.graded(total)
    low_high = (0.0, 0.0) if answers is reference else interval(before, after, headline)
    change = score - headline(before.total())
    return Difference(task.name, task.headline, name, n, score, sum(same) / len(same), change, *low_high)


def main() -> None:
    """Run the command."""
    run_command(parser(), compare)


if __name__ == "__main__":
    main()
