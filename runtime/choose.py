"""Measures the candidates of `build_engines.py --precision auto` where they will run, and keeps the quickest.

    python runtime/choose.py --engine DIR
    python runtime/choose.py --engine DIR --budget 0.5

Each candidate is compiled, asked a few conversations, and timed. Of those whose likeliest tokens are PyTorch's nearly
as often as the best one's, the one with the quickest answer stays; the others are removed. It can be interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a file: the repository root, not this folder, belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
from collections.abc import Mapping
from statistics import median
from typing import Any

from mobilevlm.commands import run_command
from mobilevlm.engines import candidates
from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.candidates import CHECK_FILE, CHOICE_REPORT, Candidates, CandidatesError, read_candidates
from mobilevlm.engines.compile import compile_bundle
from mobilevlm.errors import UserError, user_path
from mobilevlm.runtime.agreement import agreement
from mobilevlm.runtime.bench.engine import Engine
from mobilevlm.runtime.bench.plan import Plan, make_plan

ROUNDS = 3  # in each, every candidate is opened and timed once
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
    """The command line."""
    self = argparse.ArgumentParser(
        prog="choose.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    self.add_argument("--engine", required=True, metavar="DIR", help="made by build_engines.py --precision auto")
    self.add_argument(
        "--budget",
        type=float,
        default=BUDGET,
        metavar="POINTS",
        help="of agreement that may be lost to the best candidate, in percent (default: %(default)s)",
    )
    return self


def choose(directory: Path, budget: float) -> str:
    """Measure all candidates and keep one.

    Returns:
        Its name.

    Raises:
        UserError: there are none, or one cannot be compiled or run.
    """
    found = read_candidates(directory)
    if found is None:
        raise CandidatesError(
            f"{directory} holds no candidates: they are made by build_engines.py --precision auto. A bundle of one "
            f"precision is compiled by python engines/compile.py {directory}"
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
    text = table(measured, name, found, budget)
    (directory / CHOICE_REPORT).write_text(text, encoding="utf-8")
    candidates.choose(directory, found, name, measured)
    _say(text)
    return name


def measure(directory: Path, bundles: Mapping[str, Bundle]) -> dict[str, dict[str, Any]]:
    """Of each candidate, what `COLUMNS` has: medians over rounds in which all take turns."""
    plan = make_plan(list(bundles.values()), None, 16)
    plan = Plan(plan.prompt_tokens, plan.decode_tokens, plan.contexts[:1])
    times: dict[str, list[dict[str, float]]] = {name: [] for name in bundles}
    for number in range(ROUNDS):
        for name, bundle in bundles.items():
            _say(f"round {number + 1} of {ROUNDS}: {name}")
            times[name].append(timed(Engine(bundle.directory, plan)))
    found = {}
    for name, bundle in bundles.items():
        _say(f"{name}: what it says, compared with PyTorch")
        middle = {key: median(one[key] for one in times[name]) for key in times[name][0]}
        middle["answer_ms"] = middle["encode_ms"] + middle["prefill_ms"] + ANSWER_TOKENS * middle["token_ms"]
        size = sum(path.stat().st_size for path in bundle.directory.glob("*.engine")) / 1e6
        shared = 100 * agreement(bundle.directory, directory / CHECK_FILE)
        found[name] = {"agreement_percent": shared, **middle, "megabytes": size}
    return found


def timed(engine: Engine) -> dict[str, float]:
    """One repetition of a candidate that was opened for it, and run once before."""
    engine.load()
    try:
        engine.question()
        engine.decode(engine.plan.contexts[0])
        figures = engine.run()
    finally:
        engine.close()
    (tokens,) = figures["decode_ms"]
    times = {"encode_ms": figures["encode_ms"] or 0.0, "prefill_ms": figures["prefill_ms"]}
    return times | {"token_ms": median(tokens)}


def quickest(measured: Mapping[str, Mapping[str, float]], budget: float) -> str:
    """The one with the quickest answer, of those that agree with PyTorch nearly as often as the best."""
    best = max(one["agreement_percent"] for one in measured.values())
    good = [name for name, one in measured.items() if one["agreement_percent"] >= best - budget]
    return min(good, key=lambda name: measured[name]["answer_ms"])


def table(measured: Mapping[str, Mapping[str, float]], chosen: str, found: Candidates, budget: float) -> str:
    """Markdown for people; the figures are in the folder's file, too."""
    lines = [
        f"Chosen: {chosen}, the quickest answer of {ANSWER_TOKENS} tokens among those within {budget:g} points of the "
        "best one's agreement with PyTorch.",
        "",
        f"| candidate | {' | '.join(COLUMNS.values())} |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    for name, one in measured.items():
        lines.append(f"| {name} | {' | '.join(f'{one[key]:.4g}' for key in COLUMNS)} |")
    lines += ["", *(f"Left out when it was built: {name}: {why}" for name, why in found.left_out.items())]
    return "\n".join(lines).rstrip() + "\n"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _choose(options: argparse.Namespace) -> None:
    if options.budget < 0:
        raise UserError(f"--budget is {options.budget:g}; points of agreement that may be lost are 0 or more")
    directory = user_path(options.engine)
    print(choose(directory, options.budget))


def main() -> None:
    """The command."""
    run_command(parser(), _choose)


if __name__ == "__main__":
    main()
