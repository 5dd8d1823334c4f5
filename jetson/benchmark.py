"""Measures an engine bundle on a Jetson: stages, memory, power, throttling, beside limits computed for the board.

    python jetson/benchmark.py --engine artifacts/mobilevlm-orin
    python jetson/benchmark.py --engine DIR --repeats 20 --plot answer.png --save a.json
    python jetson/compare.py a.json b.json

Images and prompts are synthetic. Before measuring: `python jetson/doctor.py`, which checks power mode and clocks; both
are recorded. Tables go to stdout, and its last line is the same as JSON; progress goes to stderr. Runs on any bundle
and machine: `--board` names a board whose limits are shown beside the figures of another machine.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a file: the repository root, not this folder, belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mobilevlm.commands import command, run_command
from mobilevlm.engines.bundle import Bundle
from mobilevlm.errors import UserError, user_path
from mobilevlm.jetson.board import Board, read_board
from mobilevlm.jetson.measure import ANSWERS_S, BoardRun, measure
from mobilevlm.jetson.modules import MODULES
from mobilevlm.jetson.plot import check_plot, write_plot
from mobilevlm.jetson.references import references_for
from mobilevlm.jetson.results import (
    BoardStage,
    Energy,
    board_stages,
    energies,
    energy_lines,
    reference_lines,
    stage_table,
    throttling_lines,
)
from mobilevlm.jetson.roofline import Hardware, Limit, paper_limits
from mobilevlm.runtime.bench.plan import Plan, make_plan
from mobilevlm.runtime.bench.timed_bundle import TimedBundle
from mobilevlm.runtime.bench.workers import Worker

PACKAGES = ("tensorrt", "tensorrt-cu13", "cuda-bindings", "onnxruntime", "numpy")
FORMAT = 1  # of the line of JSON


def parser() -> argparse.ArgumentParser:
    """Defines the command line."""
    self = argparse.ArgumentParser(
        prog="benchmark.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    self.add_argument(
        "--engine", required=True, metavar="DIR", help=f"the bundle, made by {command('export/build_engines.py')}"
    )
    self.add_argument("--repeats", type=int, default=10, metavar="N", help="repetitions that count (default: 10)")
    self.add_argument(
        "--prompt-tokens", type=int, metavar="N", help="tokens of the prompt, image tokens included (default: 204)"
    )
    self.add_argument(
        "--decode-tokens", type=int, default=32, metavar="N", help="tokens after each context (default: 32)"
    )
    self.add_argument(
        "--answers-seconds",
        type=float,
        default=ANSWERS_S,
        metavar="S",
        help="seconds of answers in a row, for the energy of one (default: 10)",
    )
    self.add_argument("--board", choices=MODULES, help="board whose limits are shown (default: this one)")
    self.add_argument("--save", metavar="FILE", help="also write the line of JSON into a file, for compare.py")
    self.add_argument("--plot", metavar="FILE", help="write a plot of stages, limits and power (matplotlib)")
    return self


def benchmark(arguments: argparse.Namespace) -> None:
    """Measures, prints the tables and the line of JSON.

    Raises:
        UserError: a bundle that cannot be opened, or options that do not fit it.
    """
    if arguments.repeats < 1:
        raise UserError(f"--repeats is {arguments.repeats}; at least one repetition has to count")
    check_folders(arguments.save, arguments.plot)
    if arguments.plot:
        check_plot()
    board, bundle = read_board(), Bundle.open(arguments.engine)
    plan = make_plan([bundle], arguments.prompt_tokens, arguments.decode_tokens)
    hardware = _hardware(board, arguments.board)
    with Worker(str(bundle.directory), TimedBundle, bundle.directory, plan) as worker:
        run = measure(worker, arguments.repeats, _tell, arguments.answers_seconds)
    limits = _limits(hardware, bundle, plan) if hardware else {}
    named = arguments.board or (board.module.key if board.module else "")
    stages = board_stages(plan, run, limits, lambda stage: references_for(named, stage))
    energy = energies(run)
    print("\n".join([*_about(board, bundle, plan, hardware), "", stage_table(stages), ""]))
    lines = [*reference_lines(stages), *energy_lines(energy, run.answering, plan), *throttling_lines(run.throttling)]
    print("\n".join([*lines, _memory(run.memory)]), end="\n\n")
    if arguments.plot:
        write_plot(arguments.plot, stages, run)
    measured = {"plan": asdict(plan), "repeats": arguments.repeats} | _figures(stages, run, energy)
    document = _environment(board, hardware, bundle) | measured
    if arguments.save:
        user_path(arguments.save).write_text(json.dumps(document) + "\n")
    print(json.dumps(document))


def _environment(board: Board, hardware: Hardware | None, bundle: Bundle) -> dict[str, Any]:
    """The first part of the document: what was measured, and on what."""
    return {
        "format": FORMAT,
        "board": board.as_json(),
        "limits_of": hardware.as_json() if hardware else None,
        "versions": _versions(),
        "engine": _engine(bundle),
    }


def _figures(stages: Sequence[BoardStage], run: BoardRun, energy: Sequence[Energy]) -> dict[str, Any]:
    """The second part of the document: what came out."""
    return {
        "stages": {stage.name: stage.as_json() for stage in stages},
        "session": run.session,
        "memory": run.memory,
        "energy": [asdict(one) for one in energy],
        "throttling": run.throttling.as_json(),
    }


def _limits(hardware: Hardware, bundle: Bundle, plan: Plan) -> dict[str, Limit]:
    return paper_limits(hardware, bundle.config, bundle.manifest.forms, plan.prompt_tokens, plan.contexts)


def check_folders(*files: str | None) -> None:
    """Checks before anything is measured that files can be written.

    Args:
        files: paths, or None for those that were not asked for.

    Raises:
        UserError: a file's folder is not there.
    """
    for file in files:
        if file and not user_path(file).parent.is_dir():
            raise UserError(f"there is no folder {user_path(file).parent} for {file}")


def _hardware(board: Board, named: str | None) -> Hardware | None:
    """Hardware that limits are computed for: a named board at its best, this one at what its power mode allows."""
    if named is not None:
        return Hardware(MODULES[named])
    if board.module is None:
        return None
    mode = board.power_mode
    gpu_mhz = board.gpu.highest if board.gpu else None
    emc_mhz = board.emc.highest if board.emc else mode.emc_mhz if mode else None
    return Hardware(board.module, gpu_mhz, emc_mhz)


def _engine(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    named = ("name", "target", "lowering", "precision", "max_context", "num_image_tokens", "seal")
    compiled = {"machine": manifest.tensorrt.get("machine")}
    described = {name: getattr(manifest, name) for name in named}
    return {"directory": str(bundle.directory)} | described | {"tensorrt": compiled}


def _versions() -> dict[str, str]:
    """Versions of the installed packages and of the system."""
    found = {"python": platform.python_version(), "system": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _about(board: Board, bundle: Bundle, plan: Plan, hardware: Hardware | None) -> list[str]:
    precisions = ", ".join(f"{stage} {precision}" for stage, precision in bundle.manifest.precision.items())
    lines = [
        str(board),
        ", ".join(f"{name} {text}" for name, text in _versions().items()),
        f"{bundle.directory} ({bundle.manifest.name}, {precisions}, target {bundle.manifest.target})",
        plan.described(bundle.manifest.num_image_tokens),
    ]
    if hardware is None:
        return [*lines, "no limits: this machine is none of the known boards; --board shows the limits of one"]
    module = hardware.module
    here = "" if board.module is module else "; this machine is not one"
    return [
        *lines,
        f"limits on paper of a {module.name}{here}: GPU {hardware.gpu_mhz or module.gpu_mhz:.0f} MHz, memory "
        f"{module.gb_per_s(hardware.emc_mhz):.1f} GB/s",
    ]


def _memory(memory: dict[str, float | None]) -> str:
    names = {
        "peak_rss_mib": "process after an answer",
        "peak_rss_full_mib": "with a full context",
        "system_mib": "taken from the whole system, the GPU's included",
    }
    found = [f"{text} {memory[name]:.0f} MiB" for name, text in names.items() if memory.get(name) is not None]
    return "memory: " + (", ".join(found) or "not told by the system")


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: exit status 0, 2 for a mistake of the user's, 1 for a bug."""
    run_command(parser(), benchmark, arguments)


if __name__ == "__main__":
    main()
