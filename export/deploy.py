"""From a checkpoint to the command that serves it: builds, verifies, evaluates and times, and chooses a precision.

python export/deploy.py --model DIR --target host --accept 1.0
python export/deploy.py --model DIR --target host --accept 1.0 --questions questions.jsonl
python export/deploy.py --model DIR --target host --accept 0.5 --precisions int4,int8 vision=fp32,decoder=int4

Every precision is built into its folder below --out and asked the questions; the target's most exact one is the
reference. Of those that lose at most --accept percentage points of accuracy to it, the quickest is chosen. A line of
the file of questions is {"image": "a.jpg", "question": "Is the door open?", "answer": "yes"}; without a file, questions
are about the demo's drawings. Bundles and answers are kept: the same command goes on where it was stopped, and another
--accept takes the time of timing alone. Where none is within, the table is printed and the exit status is 2.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a file: the repository root, not this folder, belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict

from mobilevlm.commands import command, run_command
from mobilevlm.engines.targets import TARGETS
from mobilevlm.errors import UserError, user_path
from mobilevlm.export.deploy_steps import (
    StepError,
    build,
    check_claim,
    claim,
    files_digest,
    measure,
    run_step,
    say,
    write_state,
)
from mobilevlm.export.deployment import Candidate, Outcome, candidates_of, refuse_elsewhere

REPORT = "deployment.md"
DEMO_QUESTIONS = 400


def parser() -> argparse.ArgumentParser:
    """The command line."""
    self = argparse.ArgumentParser(
        prog="deploy.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    self.add_argument("--model", required=True, metavar="DIR_OR_HUB_ID", help="checkpoint, or a LoRA on one")
    self.add_argument("--base", metavar="DIR_OR_HUB_ID", help="the model a LoRA directory was trained on")
    self.add_argument("--target", required=True, choices=TARGETS, help="the device that it will run on")
    self.add_argument(
        "--accept", required=True, type=float, metavar="POINTS", help="percentage points of accuracy that may be lost"
    )
    self.add_argument("--questions", metavar="FILE", help="your own, JSON lines (default: the demo's)")
    self.add_argument("--limit", type=int, metavar="N", help="only the first N questions")
    self.add_argument(
        "--precisions",
        nargs="+",
        metavar="P",
        help="those to choose from: names with commas between them, stage=P,stage=P, or default for the target's own "
        "(default: all that the target offers)",
    )
    self.add_argument("--out", metavar="DIR", help="folder of all bundles (default: artifacts/NAME-TARGET-deploy)")
    self.add_argument("--max-context", type=int, metavar="N", help="tokens the kv cache holds (default: the target's)")
    self.add_argument("--calibration", metavar="FILE", help="LLaVA-style JSON for int4 weights and ranges")
    self.add_argument("--tokens", type=int, default=32, metavar="N", help="length of the timed answer (default: 32)")
    self.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds of timing (default: 5)")
    self.add_argument("--prune", action="store_true", help="remove the bundles that are not chosen")
    return self


def deploy(arguments: argparse.Namespace) -> None:
    """Builds, measures and chooses; prints the table, the reason and the command that serves the choice.

    Raises:
        UserError: options or files that are wrong, a target that does not run here, or no precision that is accepted.
    """
    target = TARGETS[arguments.target]
    _check(arguments)
    refuse_elsewhere(target)
    reference, candidates = candidates_of(target, arguments.precisions)
    out = user_path(arguments.out or f"artifacts/{Path(arguments.model).name}-{target.name}-deploy")
    identity = _identity(arguments)
    ask = ["--limit", arguments.limit] if arguments.limit else []
    if arguments.questions:
        run_step("eval/questions.py", "--questions", user_path(arguments.questions), *ask, output=False)
    check_claim(out, identity)
    try:
        built, failed = _build_all(arguments, out, reference, candidates)
        questions = _questions(arguments, out)
        times = ["--decode-tokens", arguments.tokens, "--rounds", arguments.rounds]
        measured = measure(built, ["--questions", questions, *ask], times, out / "answers")
    except KeyboardInterrupt:
        say(f"the same command goes on where this one was stopped; {out} has what is done")
        raise
    names = [reference.name if one.precisions == reference.precisions else one.name for one in candidates]
    outcome = Outcome(measured, failed, names, arguments.accept, arguments.tokens)
    _tell(outcome, arguments, out, built)


def _tell(outcome: Outcome, arguments: argparse.Namespace, out: Path, built: dict[str, Path]) -> None:
    """Prints and writes what came out; the command that serves the choice is the last line.

    Raises:
        UserError: nothing is chosen.
    """
    text, chosen = f"{outcome.table()}\n\n{outcome.reason()}\n", outcome.chosen
    print(text, flush=True)
    serve = f"\n{command('runtime/serve.py', '--engine', built[chosen.name])}\n" if chosen else ""
    (out / REPORT).write_text(text + serve, encoding="utf-8")
    known = {"identity": _identity(arguments), "questions": arguments.questions, "limit": arguments.limit}
    write_state(out, known | asdict(outcome) | {"chosen": chosen and chosen.name})
    if chosen is None:
        raise UserError(f"no precision is chosen: {outcome.reason()}")
    others = {name: path for name, path in built.items() if name != chosen.name}
    say(f"the other bundles are {'removed' if arguments.prune else 'kept'} ({', '.join(others) or 'none'})")
    for path in others.values() if arguments.prune else ():
        shutil.rmtree(path)
    print(serve.strip())


def _check(arguments: argparse.Namespace) -> None:
    if not (math.isfinite(arguments.accept) and arguments.accept >= 0):
        raise UserError(f"--accept is {arguments.accept:g}; percentage points that may be lost are 0 or more")
    for option in ("limit", "tokens", "rounds"):
        value = getattr(arguments, option)
        if value is not None and value < 1:
            raise UserError(f"--{option} is {value}; at least 1 is needed")


def _identity(arguments: argparse.Namespace) -> dict[str, str | int | None]:
    """What bundles depend on: those of another model are not taken for this one's."""
    model, base = ("" if one is None else files_digest(one) for one in (arguments.model, arguments.base))
    calibration = arguments.calibration and str(user_path(arguments.calibration).resolve())
    options = {"--max-context": arguments.max_context, "--calibration": calibration}
    return {"target": arguments.target, "model": model, "base": base, **options}


def _questions(arguments: argparse.Namespace, out: Path) -> Path:
    """The file of questions; the demo's is made in the folder."""
    if arguments.questions:
        return user_path(arguments.questions)
    file = out / "questions" / "questions.jsonl"
    if not file.is_file():
        say("drawing the demo's questions")
        run_step("train/demo/make_questions.py", "--out", file.parent, "--questions", DEMO_QUESTIONS, output=False)
    return file


def _build_all(
    arguments: argparse.Namespace, out: Path, reference: Candidate, candidates: Sequence[Candidate]
) -> tuple[dict[str, Path], list[str]]:
    """Builds the reference and all candidates; returns the bundles, and the names of those that could not be built."""
    options = ["--model", arguments.model]
    for name in ("base", "max_context", "calibration"):
        if (value := getattr(arguments, name)) is not None:
            options += [f"--{name.replace('_', '-')}", str(value)]
    directory = out / reference.folder
    build(directory, reference, arguments.target, options)
    claim(out, _identity(arguments))
    built, failed = {reference.name: directory}, []
    for candidate in candidates:
        if candidate.precisions == reference.precisions:
            continue
        try:
            build(out / candidate.folder, candidate, arguments.target, options)
            built[candidate.name] = out / candidate.folder
        except StepError:
            say(f"{candidate.name} is left out: it could not be built")
            failed.append(candidate.name)
    return built, failed


def main() -> None:
    """Entry point: exit status 0, 2 for a mistake of the person's or where none is accepted, 1 for a bug."""
    run_command(parser(), deploy)


if __name__ == "__main__":
    main()
