"""Measures the candidates of `build_engines.py --precision auto` where they will run, and keeps the quickest.

    python runtime/choose.py --engine DIR
    python runtime/choose.py --engine DIR --budget 0.5

Each candidate is compiled, timed, and compared with PyTorch on a few conversations. Of those that agree with PyTorch's
most likely tokens nearly as often as the best one, the quickest stays; the others are removed. It can be interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a file: the repository root, not this folder, belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
from collections.abc import Mapping, Sequence
from statistics import median

from mobilevlm.commands import command, run_command
from mobilevlm.engines import candidates
from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.candidates import CHECK_FILE, CHOICE_REPORT, Candidates, CandidatesError, read_candidates
from mobilevlm.engines.compile import compile_bundle
from mobilevlm.engines.tables import markdown_table
from mobilevlm.engines.trust import add_sign, sign_bundle, signing_key
from mobilevlm.errors import UserError, user_path
from mobilevlm.runtime.agreement import agreement
from mobilevlm.runtime.bench.plan import Plan, make_plan
from mobilevlm.runtime.bench.stages import ENCODE, PREFILL, decode_times, question_times
from mobilevlm.runtime.bench.timed_bundle import Repetition
from mobilevlm.runtime.bench.turns import in_turns

BUILD_AUTO = command("export/build_engines.py", "--precision", "auto")
ROUNDS = 3  # in each, every candidate is opened and timed once
TIMED_TOKENS = 16  # generated in each
ANSWER_TOKENS = 32  # of the answer whose time is compared
BUDGET = 1.0
COLUMNS = {
    "agreement_percent": "tokens as PyTorch, %",
    "encode_ms": "image encode, ms",
    "prefill_ms": "prefill, ms",
    "token_ms": "a token, ms",
    "answer_ms": "answer, ms",
    "megabytes": "engines, MB",
}


def parser() -> argparse.ArgumentParser:
    """Defines the command line."""
    self = argparse.ArgumentParser(
        prog="choose.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    self.add_argument("--engine", required=True, metavar="DIR", help=f"made by {BUILD_AUTO}")
    self.add_argument(
        "--budget",
        type=float,
        default=BUDGET,
        metavar="POINTS",
        help="points of agreement, in percent, that may be lost to the best candidate (default: %(default)s)",
    )
    add_sign(self)
    return self


def choose(directory: Path, budget: float) -> str:
    """Measures all candidates and keeps one.

    Args:
        directory: made by build_engines.py --precision auto.
        budget: points of agreement, in percent, that the choice may lose to the best candidate.

    Returns:
        Name of the candidate that was kept.

    Raises:
        UserError: there are none, or one cannot be compiled or run.
    """
    found = read_candidates(directory)
    if found is None:
        raise CandidatesError(
            f"{directory} holds no candidates: they are made by {BUILD_AUTO}. A bundle of one precision is compiled by "
            f"{command('engines/compile.py', directory)}"
        )
    if found.chosen:
        candidates.remove_others(directory, found.names, found.chosen)  # where that was interrupted
        _say(f"{found.chosen} was chosen before; see {directory / CHOICE_REPORT}")
        return found.chosen
    bundles = {}
    for name in found.names:
        _say(f"compiling {name}")
        bundles[name] = compile_bundle(directory / name)
    measured = measure(directory, bundles)
    name = quickest(measured, budget)
    text = report(measured, name, found, budget)
    (directory / CHOICE_REPORT).write_text(text, encoding="utf-8")
    candidates.choose(directory, found, name, measured)
    _say(text)
    return name


def measure(directory: Path, bundles: Mapping[str, Bundle]) -> dict[str, dict[str, float]]:
    """Measures what `COLUMNS` lists: medians over rounds in which all candidates take turns.

    A candidate is open only during its turn: a small board has no memory for several.

    Args:
        directory: of the candidates, with the conversations that they are compared on.
        bundles: the candidates by name, compiled.
    """
    plan = make_plan(list(bundles.values()), None, TIMED_TOKENS)
    plan = Plan(plan.prompt_tokens, plan.decode_tokens, plan.contexts[:1])
    repetitions = in_turns({name: bundle.directory for name, bundle in bundles.items()}, plan, ROUNDS, _say)
    found = {}
    for name, bundle in bundles.items():
        _say(f"{name}: agreement with PyTorch")
        size = sum(path.stat().st_size for path in bundle.directory.glob("*.engine")) / 1e6
        shared = 100 * agreement(bundle.directory, directory / CHECK_FILE)
        times = medians(repetitions[name], plan.contexts)
        found[name] = {"agreement_percent": shared, **times, "megabytes": size}
    return found


def medians(repetitions: Sequence[Repetition], contexts: Sequence[int]) -> dict[str, float]:
    """Computes the times of `COLUMNS` in milliseconds; without vision there is no encoding to wait for.

    Args:
        repetitions: of one candidate.
        contexts: of the plan: one.
    """
    times = {stage.name: stage for stage in question_times(repetitions)}
    (tokens,) = decode_times(repetitions, contexts)
    encode_ms = median(times[ENCODE].every) if ENCODE in times else 0.0
    prefill_ms = median(times[PREFILL].every)
    token_ms = median(median(run) for run in tokens.runs)
    answer_ms = encode_ms + prefill_ms + ANSWER_TOKENS * token_ms
    return {"encode_ms": encode_ms, "prefill_ms": prefill_ms, "token_ms": token_ms, "answer_ms": answer_ms}


def quickest(measured: Mapping[str, Mapping[str, float]], budget: float) -> str:
    """Returns the candidate with the quickest answer among those that agree with PyTorch nearly as often as the best.

    Args:
        measured: figures of each candidate.
        budget: points of agreement that may be lost to the best, in percent.
    """
    best = max(one["agreement_percent"] for one in measured.values())
    good = [name for name, one in measured.items() if one["agreement_percent"] >= best - budget]
    return min(good, key=lambda name: measured[name]["answer_ms"])


def report(measured: Mapping[str, Mapping[str, float]], chosen: str, found: Candidates, budget: float) -> str:
    """Writes the choice in Markdown; the figures are in the directory's file, too.

    Args:
        measured: figures of each candidate.
        chosen: the one that is kept.
        found: the candidates, with those left out at the build.
        budget: points of agreement that could be lost, in percent.
    """
    rows = [[name, *(f"{one[key]:.4g}" for key in COLUMNS)] for name, one in measured.items()]
    lines = [
        f"Chosen: {chosen}, the quickest answer of {ANSWER_TOKENS} tokens among those within {budget:g} points of the "
        "best one's agreement with PyTorch.",
        "",
        markdown_table(["candidate", *COLUMNS.values()], rows),
        "",
        *(f"Left out when it was built: {name}: {why}" for name, why in found.left_out.items()),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _choose(options: argparse.Namespace) -> None:
    if options.budget < 0:
        raise UserError(f"--budget is {options.budget:g}; points of agreement that may be lost are 0 or more")
    directory, key = user_path(options.engine), signing_key(options)
    chosen = choose(directory, options.budget)
    if key is not None:
        sign_bundle(directory / chosen, key)
    print(chosen)


def main() -> None:
    """Entry point."""
    run_command(parser(), _choose)


if __name__ == "__main__":
    main()
