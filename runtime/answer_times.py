"""Times an answer of several bundles in turns: the first token, each further one, and the whole.

    python runtime/answer_times.py --engine DIR --engine DIR
    python runtime/answer_times.py --engine DIR --engine DIR --decode-tokens 64 --rounds 9

Images and prompts are synthetic and the same for all. In every round each bundle is opened, warmed up and timed once,
in an order that rotates. The last columns are a bundle's time by the first one's of the same round, and the interval
that holds 95 % of bootstrap samples of the rounds. The last line is the same as JSON; progress goes to stderr.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a file: the repository root, not this folder, belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from mobilevlm.commands import command, run_command
from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.tables import aligned_table
from mobilevlm.errors import UserError
from mobilevlm.runtime.bench.plan import Plan, make_plan
from mobilevlm.runtime.bench.ratios import paired_ratio
from mobilevlm.runtime.bench.timed_bundle import Repetition
from mobilevlm.runtime.bench.turns import in_turns

COLUMNS = ("bundle", "TTFT, ms", "a token, ms", "answer, ms", "by the first", "95 % interval")


@dataclass(frozen=True)
class AnswerTime:
    """Times of one bundle, medians over the rounds in milliseconds.

    Attributes:
        engine: its directory, as it was given.
        ttft_ms: image and prompt up to the first token.
        token_ms: each further token.
        answer_ms: both, for all tokens of the answer.
        each_ms: `answer_ms` of every round.
        ratio: median over the rounds of `answer_ms` by the first bundle's.
        low, high: the middle 95 % of it over bootstrap samples.
    """

    engine: str
    ttft_ms: float
    token_ms: float
    answer_ms: float
    each_ms: list[float]
    ratio: float
    low: float
    high: float


def parser() -> argparse.ArgumentParser:
    """Makes the parser of the command line."""
    self = argparse.ArgumentParser(
        prog="answer_times.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    build = command("export/build_engines.py")
    self.add_argument(
        "--engine", action="append", required=True, metavar="DIR", help=f"a bundle, made by {build}; give it again"
    )
    self.add_argument("--decode-tokens", type=int, default=32, metavar="N", help="tokens of the answer (default: 32)")
    self.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds that count (default: 5)")
    self.add_argument(
        "--wait", type=float, default=0.0, metavar="S", help="longest wait for a quiet machine, each time (default: 0)"
    )
    return self


def measure(arguments: argparse.Namespace) -> None:
    """Measures, prints the table and the line of JSON.

    Raises:
        UserError: a bundle that cannot be run here, one that is given twice, or numbers that do not fit.
    """
    if arguments.rounds < 1:
        raise UserError(f"--rounds is {arguments.rounds}; at least one round has to count")
    if len(set(arguments.engine)) < len(arguments.engine):
        raise UserError("--engine names a bundle twice: each takes one turn in a round")
    bundles = {name: Bundle.open(name) for name in arguments.engine}
    plan = make_plan(list(bundles.values()), None, arguments.decode_tokens)
    plan = Plan(plan.prompt_tokens, plan.decode_tokens, plan.contexts[:1])
    directories = {name: bundle.directory for name, bundle in bundles.items()}
    found = answer_times(in_turns(directories, plan, arguments.rounds, _say, arguments.wait))
    print(
        f"medians of {arguments.rounds} rounds; a prompt of {plan.prompt_tokens} tokens, {plan.decode_tokens} behind it"
    )
    print(aligned_table(COLUMNS, [_row(one) for one in found]), end="\n\n")
    described = {"prompt_tokens": plan.prompt_tokens, "tokens": plan.decode_tokens, "rounds": arguments.rounds}
    print(json.dumps(described | {"engines": [asdict(one) for one in found]}))


def answer_times(repetitions: Mapping[str, Sequence[Repetition]]) -> list[AnswerTime]:
    """Computes the times of bundles that took turns, the first of which is what the others are compared with."""
    whole = {name: [_answer_ms(one) for one in own] for name, own in repetitions.items()}
    first = next(iter(whole.values()))
    found = []
    for name, own in repetitions.items():
        ratio = paired_ratio(name, first, whole[name])
        ttft, token = (median(one["ttft_ms"] for one in own), median(median(one["decode_ms"][0]) for one in own))
        found.append(
            AnswerTime(name, ttft, token, median(whole[name]), whole[name], ratio.ratio, ratio.low, ratio.high)
        )
    return found


def _answer_ms(one: Repetition) -> float:
    return one["ttft_ms"] + sum(one["decode_ms"][0])


def _row(one: AnswerTime) -> list[str]:
    times = [f"{value:.1f}" for value in (one.ttft_ms, one.token_ms, one.answer_ms)]
    return [one.engine, *times, f"{one.ratio:.3f}", f"{one.low:.3f}-{one.high:.3f}"]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Entry point: exit status 0, 2 for a mistake of the user's, 1 for a bug."""
    run_command(parser(), measure)


if __name__ == "__main__":
    main()
