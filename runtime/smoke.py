"""Tries a bundle on the NVIDIA GPU that it is for, in under ten minutes: does it run, is it right, how fast is it.

    python runtime/smoke.py --engine DIR
    python runtime/smoke.py --engine DIR --save a.json

In turn: a start with nothing kept by an earlier one, the stored sample against PyTorch, for the demo model twenty
questions in both ways of choosing tokens and the same on the CPU, a short benchmark, and a second start. Each has a
process and a time limit of its own; when one fails, the rest still run. A table goes to stdout, everything as JSON into
a file.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a file: the repository root, not this folder, belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import json
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mobilevlm.commands import run_command
from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.tables import markdown_table
from mobilevlm.engines.tensorrt.cuda_device import compute_capability, memory_bytes
from mobilevlm.engines.tensorrt.library import import_tensorrt, library_of
from mobilevlm.engines.tensorrt.record import require_usable
from mobilevlm.engines.tensorrt.require import tensorrt_target
from mobilevlm.errors import UserError, user_path
from mobilevlm.runtime.bench.workers import Worker
from mobilevlm.runtime.smoke_steps import Outcome, smoke

FORMAT = 1  # of the file


def parser() -> argparse.ArgumentParser:
    """Makes the parser of the command line."""
    self = argparse.ArgumentParser(
        prog="smoke.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    self.add_argument("--engine", required=True, metavar="DIR", help="the bundle, with its engines")
    self.add_argument("--save", metavar="FILE", help="where the JSON goes (default: smoke-NAME.json here)")
    return self


def describe_gpu(bundle: Bundle) -> dict[str, Any]:
    """Describes the GPU that a bundle is to run on.

    Raises:
        UserError: it is for no NVIDIA GPU, there is none, TensorRT is missing, or its engines are, or are for another.
    """
    library = library_of(tensorrt_target(bundle, ", and this tries an NVIDIA GPU").name)
    version, capability = import_tensorrt(library).__version__, compute_capability()
    require_usable(bundle, version, capability)
    free, total = memory_bytes()
    about = {"library": library.name, "version": version, "capability": capability}
    return about | {"free_bytes": free, "memory_bytes": total, "nvidia_smi": _nvidia_smi()}


def _nvidia_smi() -> list[str]:
    """Returns name, driver and power limit of every GPU; nothing where the driver's own program is not there."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,power.limit", "--format=csv,noheader"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line for line in said.splitlines() if line.strip()]


def table(outcomes: Sequence[Outcome]) -> str:
    """Lays out a row for each step, in Markdown."""
    rows = []
    for one in outcomes:
        if one.left_out:
            rows.append([one.name, "left out", "", "", one.left_out])
        else:
            word, text = ("FAILED", one.problem) if one.problem else ("ok", one.summary)
            rows.append([one.name, word, f"{one.seconds:.1f}", f"{one.limit_s:g}", text])
    return markdown_table(["step", "", "s", "at most", ""], rows)


def _smoke(options: argparse.Namespace) -> None:
    bundle = Bundle.open(options.engine)
    file = user_path(options.save or f"smoke-{bundle.directory.name}.json")
    if not file.parent.is_dir():
        raise UserError(f"there is no folder {file.parent} for {file}")
    # In a separate process: here it would hold some of the GPU's memory all the while.
    with Worker("the GPU", Bundle.open, bundle.directory) as worker:
        gpu = worker.call(describe_gpu)
    outcomes = smoke(bundle, lambda text: print(text, file=sys.stderr, flush=True))
    names = ("name", "target", "precision", "max_context", "seal", "tensorrt")
    document = {
        "format": FORMAT,
        "bundle": {name: getattr(bundle.manifest, name) for name in names},
        "gpu": gpu,
        "machine": {"system": platform.platform(), "python": platform.python_version()},
        "steps": [asdict(one) for one in outcomes],
    }
    about = [f"{gpu['library']} {gpu['version']}", f"compute capability {gpu['capability']}", *gpu["nvidia_smi"]]
    print("; ".join(about), end="\n\n")
    print(table(outcomes), end="\n\n", flush=True)
    file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"All figures: {file}")
    if failed := [f"{one.name}: {one.problem}" for one in outcomes if one.problem]:
        raise UserError(f"{len(failed)} of {len(outcomes)} steps failed: {'; '.join(failed)}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; the arguments are those of the process when None."""
    run_command(parser(), _smoke, arguments)


if __name__ == "__main__":
    main()
