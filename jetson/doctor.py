"""Checks a Jetson Orin for what keeps engines from running, or from running fast, and names the remedy of each.

    python jetson/doctor.py
    sudo env "PATH=$PATH" python jetson/doctor.py        the same with the memory's clock, which only root may read
    python jetson/doctor.py --json
    python jetson/doctor.py --apply                      run the remedies that are commands, each printed before it runs
    python jetson/doctor.py --apply power clocks         only these; `headless` and `cma` have to be named
    python jetson/doctor.py --bundle DIR                 predict whether this prepared bundle builds and runs here
    python jetson/doctor.py --root /tmp/copied-board     check /boot, /etc, /proc, /sys and /var of another board

Changes nothing without --apply. Exit status 0 without problems, 1 with problems, 2 on a machine that is no Jetson and
for a bundle that is damaged or for another target. What --bundle predicts is estimated, not measured on a board.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a file: the repository root, not this folder, belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence
from importlib.metadata import distributions
from typing import Any

from mobilevlm.commands import run_command
from mobilevlm.engines.bundle import Bundle
from mobilevlm.errors import UserError, user_path
from mobilevlm.jetson import checks_board, checks_software
from mobilevlm.jetson.board import Board, read_board
from mobilevlm.jetson.findings import PROBLEM, Finding, System
from mobilevlm.jetson.prediction import predict
from mobilevlm.jetson.sysfs import ROOT

SITE_PACKAGES = ("usr/lib/python3*/dist-packages", "usr/local/lib/python3*/dist-packages")
HERE = Path(__file__).resolve().parent


def parser() -> argparse.ArgumentParser:
    """Defines the command line."""
    self = argparse.ArgumentParser(
        prog="doctor.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    self.add_argument(
        "--apply", nargs="*", metavar="NAME", help="run the remedies that are commands: all, or of these findings"
    )
    self.add_argument("--bundle", metavar="DIR", help="predict whether this bundle builds and runs here")
    self.add_argument("--json", action="store_true", help="findings as JSON instead of text")
    self.add_argument("--root", default=str(ROOT), metavar="DIR", help="a tree copied from a board (default: /)")
    return self


def examine_board(arguments: argparse.Namespace) -> None:
    """Prints the findings, applies the remedies that were asked for, and exits with 1 where there are problems.

    Raises:
        UserError: no Jetson, a bundle that nothing can be predicted of, or a remedy that cannot be applied.
    """
    root = user_path(arguments.root)
    if arguments.apply is not None and root != ROOT:
        raise UserError(f"--apply mends the board it runs on, and --root {root} is a copy: leave one of them out")
    board = read_board(root)
    if not board.is_jetson:
        where = "this machine" if root == ROOT else str(root)
        raise UserError(f"{where} is no Jetson (no L4T release, no Orin in a device tree); --root DIR looks at a copy")
    system = look_at(root, board)
    bundle = Bundle.open(arguments.bundle, compiling=True) if arguments.bundle is not None else None
    predictions = predict(system, bundle) if bundle else []
    findings = examine(system)
    if arguments.json:
        document: dict[str, Any] = {"board": board.as_json(), "findings": [one.as_json() for one in findings]}
        if bundle:
            document["prediction"] = {"bundle": str(bundle.directory), "needs": [one.as_json() for one in predictions]}
        print(json.dumps(document, indent=2))
    else:
        print(board, end="\n\n")
        print("\n".join(map(str, findings)))
        if bundle:
            print(f"\n{_title(bundle)}\n" + "\n".join(map(str, predictions)))
    if arguments.apply is not None:
        apply(findings, arguments.apply)
    elif PROBLEM in [*(one.status for one in findings), *(one.verdict for one in predictions)]:
        sys.exit(1)


def _title(bundle: Bundle) -> str:
    """Heading of the predictions."""
    manifest = bundle.manifest
    precision = ", ".join(f"{stage}={name}" for stage, name in manifest.precision.items())
    return f"{bundle.directory} ({manifest.target}, {precision}), estimated:"


def look_at(root: Path, board: Board) -> System:
    """Reads what the checks need.

    Args:
        root: `/`, or where a tree was copied to.
        board: read below it.
    """
    if root == ROOT:
        python: str | None = "{}.{}".format(*sys.version_info)
        found, free, import_error = distributions(), shutil.disk_usage(HERE).free, _import_error()
    else:
        python = _python_of(root)
        paths = [str(path) for pattern in SITE_PACKAGES for path in root.glob(pattern)]
        found, free, import_error = distributions(path=paths), None, None
    versions = {one.metadata["Name"].lower().replace("_", "-"): one.version for one in found if one.metadata["Name"]}
    return System(root, board, versions, python, free, import_error)


def _import_error() -> str:
    """The last line that importing TensorRT prints, in a separate process: a library that fails may end it."""
    done = subprocess.run([sys.executable, "-c", "import tensorrt"], capture_output=True, text=True)
    last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    return last if done.returncode else ""


def _python_of(root: Path) -> str | None:
    """Version of the system's Python, by the target of its link."""
    try:
        found = re.fullmatch(r"python(3\.\d+)", os.path.basename(os.readlink(root / "usr/bin/python3")))
    except OSError:
        return None
    return found[1] if found else None


def examine(system: System) -> list[Finding]:
    """Runs all checks, in their order."""
    return [check(system) for check in (*checks_software.CHECKS, *checks_board.CHECKS)]


def apply(
    findings: Sequence[Finding], names: Sequence[str], run: Callable[[Sequence[str]], int] = subprocess.call
) -> None:
    """Runs remedies as root through sudo, each command printed before it runs; stops at the first that fails.

    Args:
        findings: what was found.
        names: names of the findings to remedy; none for all that need not be named.
        run: takes a command and returns its exit status.

    Raises:
        UserError: a name that no finding has or that has nothing to run, or a command that failed.
    """
    by_name = {finding.name: finding for finding in findings}
    for name in names:
        if name not in by_name:
            raise UserError(f"there is no finding {name!r}: choose from {', '.join(by_name)}")
        if not by_name[name].commands:
            remedy = by_name[name].remedy or "it is in order"
            raise UserError(f"--apply has nothing to run for {name}: {remedy}")
    chosen = [by_name[name] for name in names] or [one for one in findings if one.commands and not one.only_by_name]
    if not chosen:
        print("\nnothing to apply")
    for finding in chosen:
        for words in finding.commands:
            command = [*([] if os.geteuid() == 0 else ["sudo"]), *words]
            print(f"+ {shlex.join(command)}", flush=True)
            if status := run(command):
                raise UserError(f"{shlex.join(command)} failed with exit status {status}; what follows was not run")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: exit status 0, 1 for a problem, 2 on a machine that is no Jetson or for a mistake."""
    run_command(parser(), examine_board, arguments)


if __name__ == "__main__":
    main()
