"""Measures an engine bundle on this machine: every stage, tokens a second, memory, beside the machine's limits.

    python runtime/benchmark.py --engine artifacts/demo-host
    python runtime/benchmark.py --engine DIR --repeats 9 --profile
    python runtime/benchmark.py --compare DIR_A DIR_B

Images and prompts are synthetic. Each bundle is measured in a separate process, and so are the machine's limits; in
every round each does one repetition, in an order that rotates. Tables go to stdout, and its last line is the same as
JSON; progress goes to stderr.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a file: the repository root, not this folder, belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import json
from contextlib import ExitStack

from mobilevlm.commands import command, run_command
from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.trust import add_trust
from mobilevlm.errors import UserError, user_path
from mobilevlm.runtime.bench.figures import stage_figures
from mobilevlm.runtime.bench.limits import Machine
from mobilevlm.runtime.bench.machine import describe_machine
from mobilevlm.runtime.bench.plan import make_plan
from mobilevlm.runtime.bench.prefix_turns import PrefixFigures, measure_prefixes
from mobilevlm.runtime.bench.profile import OperatorTime, profile_stages
from mobilevlm.runtime.bench.ratios import ratios
from mobilevlm.runtime.bench.report import Report, Result
from mobilevlm.runtime.bench.rounds import measure
from mobilevlm.runtime.bench.timed_bundle import TimedBundle
from mobilevlm.runtime.bench.workers import Worker


def parser() -> argparse.ArgumentParser:
    """Defines the command line."""
    self = argparse.ArgumentParser(
        prog="benchmark.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = self.add_mutually_exclusive_group(required=True)
    what.add_argument("--engine", metavar="DIR", help=f"the bundle, made by {command('export/build_engines.py')}")
    what.add_argument("--compare", nargs=2, metavar=("A", "B"), help="two bundles in turns, and their ratios, B by A")
    add_trust(self)
    self.add_argument("--repeats", type=int, default=5, metavar="N", help="repetitions that count (default: 5)")
    self.add_argument(
        "--prompt-tokens", type=int, metavar="N", help="tokens of the prompt, image tokens included (default: 204)"
    )
    self.add_argument(
        "--decode-tokens", type=int, default=32, metavar="N", help="tokens to generate after each context (default: 32)"
    )
    self.add_argument(
        "--wait", type=float, default=5.0, metavar="S", help="longest wait for a quiet machine, each time (default: 5)"
    )
    self.add_argument(
        "--prefixes", action="store_true", help="measure follow-ups with and without a prefix cache instead"
    )
    self.add_argument("--profile", action="store_true", help="add ONNX Runtime's table of operators for each stage")
    return self


def benchmark(arguments: argparse.Namespace) -> None:
    """Measures, prints the tables and the line of JSON.

    Raises:
        UserError: a bundle that cannot be opened, or numbers that do not fit it.
    """
    if arguments.repeats < 1:
        raise UserError(f"--repeats is {arguments.repeats}; at least one repetition has to count")
    if arguments.prefixes and arguments.engine is None:
        raise UserError("--prefixes measures one bundle: name it with --engine")
    report: PrefixFigures | Report
    try:
        if arguments.prefixes:
            Bundle.open(arguments.engine, trust=arguments.trust)
            report = measure_prefixes(user_path(arguments.engine), arguments.repeats, _status)
        else:
            report = _measured(arguments)
    finally:
        _status("")
    print(report, end="\n\n")
    print(json.dumps(report.as_json()))


def _measured(arguments: argparse.Namespace) -> Report:
    _status("checking the bundle's files")
    bundles = [Bundle.open(name, trust=arguments.trust) for name in arguments.compare or [arguments.engine]]
    plan = make_plan(bundles, arguments.prompt_tokens, arguments.decode_tokens)
    with ExitStack() as stack:
        machine = stack.enter_context(Worker("the machine's limits", Machine, arguments.wait))
        workers = [
            stack.enter_context(Worker(str(bundle.directory), TimedBundle, bundle.directory, plan, arguments.wait))
            for bundle in bundles
        ]
        limits, measured = measure(machine, workers, arguments.repeats, _status)
        profiles: list[dict[str, list[OperatorTime]]] = [{} for _ in workers]
        if arguments.profile:
            _status("profiling")
            profiles = [worker.call(profile_stages) for worker in workers]
    figures = [stage_figures(bundle, plan, limits, found) for bundle, found in zip(bundles, measured, strict=True)]
    each = zip(bundles, figures, measured, profiles, strict=True)
    results = [Result(*parts) for parts in each]
    return Report(describe_machine(), limits, plan, results, ratios(*figures) if arguments.compare else [])


def _status(text: str) -> None:
    """Shows what is being waited for: at a terminal on a line that the next one replaces."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Entry point: exit status 0, 2 for a mistake of the user's, 1 for a bug."""
    run_command(parser(), benchmark)


if __name__ == "__main__":
    main()
