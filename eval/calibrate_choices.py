"""Fits the temperature of a bundle's closed questions on the benchmarks, and stores it in the bundle.

python eval/calibrate_choices.py --engine artifacts/demo-host --data data/demo
python eval/calibrate_choices.py --engine artifacts/demo-host --data data/demo --abstain 0.8
python eval/calibrate_choices.py --engine artifacts/demo-host --data data/demo --dry-run --against artifacts/demo-fp32

Half of the images is for fitting, the other half for the report. Asked are the questions that have one right answer of
a few: yes or no in GQA, POPE and MME, letters in SQA and MMBench.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # started as a file: the repository root, not this folder, belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

from mobilevlm.commands import command, run_command
from mobilevlm.engines.choice_calibration import ChoiceCalibration, store_choice_calibration
from mobilevlm.engines.tables import markdown_table
from mobilevlm.engines.trust import add_sign, add_trust, signing_key
from mobilevlm.errors import UserError
from mobilevlm.eval.closed_questions import (
    CLEAR,
    Asked,
    Times,
    agreement,
    ask_all,
    closed_questions,
    contradictions,
    half_of,
    of_different_images,
    time_both,
)
from mobilevlm.eval.reliability import Scored, answered_above, error_difference, fit_temperature
from mobilevlm.eval.run import data_directory
from mobilevlm.eval.tasks import TASKS
from mobilevlm.packages import require
from mobilevlm.runtime.bench.ratios import paired_ratio
from mobilevlm.runtime.session import Session
from mobilevlm.text.prompt import TEMPLATES

SAME_ORDER = 0.98  # of the questions, which the margin is fitted for
MANY = 1000  # choices: more than any question has
THRESHOLDS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


def parser() -> argparse.ArgumentParser:
    """Command line of the calibration."""
    self = argparse.ArgumentParser(
        prog="calibrate_choices.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    build = command("export/build_engines.py")
    self.add_argument("--engine", required=True, metavar="DIR", help=f"the bundle, made by `{build}`")
    self.add_argument("--data", default="data", metavar="DIR", help="has benchmark_data/ in it (default: %(default)s)")
    self.add_argument("--limit", type=int, metavar="N", help="only the first N closed questions of each benchmark")
    self.add_argument(
        "--abstain",
        type=float,
        metavar="P",
        help="store this threshold, too: less likely answers are none (default: 0)",
    )
    add_trust(self)
    add_sign(self)
    self.add_argument("--dry-run", action="store_true", help="store nothing in the bundle")
    self.add_argument("--against", metavar="DIR", help="another bundle of the model: how many rankings are the same")
    self.add_argument("--time", type=int, metavar="N", help="also time N questions against generated answers")
    self.add_argument("--conv-mode", choices=TEMPLATES, help="conversation template (default: the model's own)")
    self.add_argument("--on-cpu", action="store_true", help="run a bundle for another device on this CPU: slow")
    return self


def calibrate(args: argparse.Namespace) -> None:
    """Asks, fits, stores and reports.

    Raises:
        UserError: options out of range, no questions, or a bundle that cannot be run or written.
    """
    require("calibration", "tqdm")
    for option in ("limit", "time"):
        value = getattr(args, option)
        if value is not None and value < 1:
            raise UserError(f"--{option} is {value}; at least 1 is needed")
    ChoiceCalibration(abstain=args.abstain or 0.0)  # refuses a threshold that is no probability
    key = signing_key(args)
    asked = closed_questions(data_directory(args.data), args.limit)
    with Session(args.engine, on_cpu=args.on_cpu, trust=args.trust) as session:
        if not args.dry_run and not os.access(session.bundle.directory, os.W_OK):
            raise UserError(f"{session.bundle.directory} cannot be written: copy the bundle, or add --dry-run")
        scores = ask_all(session, asked, args.conv_mode)
        times = time_both(session, of_different_images(asked, args.time), args.conv_mode) if args.time else None
    fitted = half_of(asked, scores, 0)
    temperature = fit_temperature(fitted)
    print(f"temperature {temperature:.3f}, fitted on {len(fitted.right)} questions; the others:\n")
    print(_reliability_table(asked, scores, temperature))
    judged = half_of(asked, scores, 1)
    low, high = (100 * value for value in error_difference(judged, temperature))
    print(f"\nECE after - before: 95 % of bootstrap samples of the questions within {low:+.2f} and {high:+.2f} points")
    print(f"\n{_threshold_table(judged, temperature)}")
    if times is not None:
        print(f"\n{_timing(times)}")
    if args.against:
        _compare(args, asked, scores, temperature)
    if not args.dry_run:
        calibration = ChoiceCalibration(temperature, args.abstain or 0.0, len(fitted.right))
        store_choice_calibration(session.bundle, calibration, key)
        print(f"\nstored in {session.bundle.directory}: temperature {temperature:.3f}, abstain {calibration.abstain:g}")


def _reliability_table(asked: Sequence[Asked], scores: Sequence[Sequence[float]], temperature: float) -> str:
    """Accuracy and errors of the half that was not fitted on, by benchmark and in all, in percent."""
    judged = [(one, own) for one, own in zip(asked, scores, strict=True) if one.half == 1]
    rows = []
    for name in [*TASKS, None]:
        kept = [(one, own) for one, own in judged if name in (None, one.task)]
        if not kept:
            continue
        scored = Scored.of([own for _, own in kept], [one.closed.right for one, _ in kept])
        before, after = scored.calibration_error(1.0), scored.calibration_error(temperature)
        likelihoods = [f"{scored.negative_log_likelihood(value):.4f}" for value in (1.0, temperature)]
        figures = [f"{100 * value:.2f}" for value in (scored.accuracy(), before, after)]
        rows.append([TASKS[name].title if name else "all", str(len(kept)), *figures, *likelihoods])
    head = ["benchmark", "n", "accuracy %", "ECE % before", "ECE % after", "NLL before", "NLL after"]
    return markdown_table(head, rows)


def _threshold_table(scored: Scored, temperature: float) -> str:
    """What is answered above each threshold, in percent."""
    rows = []
    for threshold in THRESHOLDS:
        found = answered_above(scored, temperature, threshold)
        accuracy = f"{100 * found.accuracy:.2f}" if found.share else ""
        rows.append([f"{threshold:g}", f"{100 * found.share:.1f}", accuracy])
    return markdown_table(["--abstain", "answered %", "accuracy of these %"], rows)


def _timing(times: Times) -> str:
    """Medians, and the median ratio with its bootstrap interval."""
    closed, generated = statistics.median(times.closed), statistics.median(times.generated)
    found = paired_ratio("closed question", times.generated.tolist(), times.closed.tolist())
    return (
        f"{len(times.closed)} questions in turn, image encoded before: closed {closed:.1f} ms, generated "
        f"{generated:.1f} ms (medians); ratio {found.ratio:.3f}, 95 % within {found.low:.3f} and {found.high:.3f}"
    )


def _compare(
    args: argparse.Namespace, asked: Sequence[Asked], scores: Sequence[Sequence[float]], temperature: float
) -> None:
    """Asks another bundle the same and prints in how many questions the two agree, and from which margin on."""
    with Session(args.against, on_cpu=args.on_cpu) as other:
        others = ask_all(other, asked, args.conv_mode)
    rows = []
    for title, fewest, most in (("two choices", 2, 2), ("more choices", 3, MANY), ("all", 2, MANY)):
        kept = [number for number, one in enumerate(asked) if fewest <= len(one.closed.choices) <= most]
        if kept:
            found = agreement([others[number] for number in kept], [scores[number] for number in kept])
            shares = (found.answers, found.rankings, found.clear)
            rows.append([title, str(found.questions), *(f"{100 * share:.2f}" for share in shares)])
    head = [f"as {args.against}", "n", "same answer %", "same ranking %", f"same, if {100 * CLEAR:.0f} points apart %"]
    print(f"\n{markdown_table(head, rows)}")
    apart, halves = contradictions(scores, others, temperature), np.array([one.half for one in asked])
    margin = float(np.quantile(apart[halves == 0], SAME_ORDER, method="higher"))
    share = float((apart[halves == 1] <= margin).mean())
    print(
        f"\nChoices that it puts more than {100 * margin:.1f} points apart have the order of {args.against} in "
        f"{100 * SAME_ORDER:.0f} % of the questions fitted on, and in {100 * share:.1f} % of the others"
    )


def main() -> None:
    """Run the command."""
    run_command(parser(), calibrate)


if __name__ == "__main__":
    main()
