"""Steps of a deployment, each a command of this project in a process of its own."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mobilevlm.atomic_file import write_whole
from mobilevlm.commands import is_clone
from mobilevlm.engines.bundle import Bundle, BundleError
from mobilevlm.errors import UserError, user_path

from .deployment import DEFAULT, Candidate, Measured

ROOT = Path(__file__).resolve().parents[1]
STATE = "deployment.json"
GRACE_S = 5.0  # for a command that was interrupted, before it is told to end
REFUSED, INTERRUPTED = 2, 130  # exit statuses of a command: what the person can mend, and Ctrl-C


class StepError(UserError):
    """A command that refused; what it said is on stderr."""


def run_step(script: str, *words: object, output: bool = True) -> str:
    """Runs a command, whose stderr is ours, and returns what it printed.

    Args:
        script: its path in a clone.
        *words: its arguments.
        output: whether its stdout is returned; else it goes nowhere.

    Raises:
        StepError: it refused, with exit status 2.
        UserError: it was killed.
        RuntimeError: it failed.
        KeyboardInterrupt: it was interrupted.
    """
    # An installed script started as a file would have this package's modules on the path by their bare names.
    module = f"mobilevlm.{script.removesuffix('.py').replace('/', '.')}"
    command = [sys.executable, *([str(ROOT / script)] if is_clone() else ["-m", module]), *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE if output else subprocess.DEVNULL, text=True) as process:
        try:
            said, _ = process.communicate()
        except KeyboardInterrupt:  # a terminal interrupts all of its processes: this one cleans up by itself
            _end(process, GRACE_S)
            raise
        except BaseException:
            _end(process, 0)
            raise
    if process.returncode == REFUSED:
        raise StepError(f"{Path(script).stem} refused: its message is above")
    if process.returncode == INTERRUPTED:
        raise KeyboardInterrupt
    if process.returncode < 0:
        raise UserError(f"{Path(script).stem} was killed by signal {-process.returncode}; 9 is often too little memory")
    if process.returncode:
        raise RuntimeError(f"{script} ended with status {process.returncode}")
    return said or ""


def check_claim(out: Path, identity: Mapping[str, Any]) -> None:
    """Checks that a folder is empty or holds a deployment of the same model, target and options.

    Args:
        out: the folder.
        identity: what its bundles depend on.

    Raises:
        UserError: the folder holds something else.
    """
    path = out / STATE
    if not path.is_file():
        # What a killed first build left is hidden, and cleared by the next one.
        if out.exists() and (not out.is_dir() or any(not one.name.startswith(".") for one in out.iterdir())):
            raise UserError(f"{out} holds something else than a deployment: give another --out")
        return
    try:
        theirs = json.loads(path.read_text(encoding="utf-8"))["identity"]
        changed = [name for name in {**theirs, **identity} if theirs.get(name) != identity.get(name)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path} is damaged: remove {out}, or give another --out") from None
    if changed:
        raise UserError(
            f"{out} holds bundles of another {changed[0]} (it was {theirs.get(changed[0])}, and is "
            f"{identity.get(changed[0])}): remove it, or give another --out"
        )


def claim(out: Path, identity: Mapping[str, Any]) -> None:
    """Notes in a folder what its bundles depend on, once.

    Args:
        out: the folder, with a first bundle in it.
        identity: see `check_claim`.
    """
    if not (out / STATE).is_file():
        write_state(out, {"identity": dict(identity)})


def write_state(out: Path, content: Mapping[str, Any]) -> None:
    """Writes what is known of a deployment.

    Args:
        out: its folder.
        content: as JSON.
    """
    write_whole(out / STATE, (json.dumps(content, indent=2) + "\n").encode())


def files_digest(model: str) -> str:
    """Returns a digest of names, sizes and times of a checkpoint's files; its id where it is one of the hub."""
    directory = user_path(model)
    if not directory.is_dir():
        return model
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    known = [f"{path.relative_to(directory)} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files]
    return hashlib.sha256("\n".join(known).encode()).hexdigest()


def is_built(directory: Path, candidate: Candidate, target: str) -> bool:
    """Tells whether a folder holds a whole bundle of these precisions.

    Args:
        directory: of the bundle.
        candidate: its precisions.
        target: name of the target.
    """
    if not directory.is_dir():
        return False
    try:
        manifest = Bundle.open(directory).manifest
    except BundleError:
        return False
    own = {stage: name for stage, name in candidate.precisions.items() if stage in manifest.precision}
    return manifest.target == target and own == manifest.precision


def build(directory: Path, candidate: Candidate, target: str, options: Sequence[str]) -> None:
    """Builds and verifies a bundle, unless a whole one of the same precisions is there.

    Args:
        directory: of the bundle.
        candidate: its precisions.
        target: name of the target.
        options: further ones of `build_engines.py`.

    Raises:
        StepError: it cannot be built, or is too far from PyTorch.
    """
    if is_built(directory, candidate, target):
        say(f"{candidate.name}: {directory} is there already")
        return
    say(f"{candidate.name}: building {directory}")
    precision = [] if candidate.name == DEFAULT else ["--precision", candidate.name]
    words = ["--target", target, *precision, *options, "--out", directory, "--overwrite"]
    run_step("export/build_engines.py", *words, output=False)


def measure(
    directories: Mapping[str, Path], ask: Sequence[object], times: Sequence[object], answers: Path
) -> list[Measured]:
    """Asks all bundles the questions and times them in turns.

    Args:
        directories: bundles by name of the candidate; the reference first.
        ask: options of `questions.py`.
        times: options of `answer_times.py`.
        answers: folder of the answers.

    Raises:
        StepError: one of them cannot be run here.
    """
    engines = [word for directory in directories.values() for word in ("--engine", directory)]
    say("asking the questions")
    asked = _last_line(run_step("eval/questions.py", *ask, *engines, "--out", answers))
    say("timing answers, in turns")
    timed = _last_line(run_step("runtime/answer_times.py", *times, *engines))["engines"]
    return [
        Measured(
            name=name,
            megabytes=sum(path.stat().st_size for path in directory.iterdir() if path.is_file()) / 1e6,
            n=one["n"],
            accuracy=one["score"],
            loss=0.0 - one["difference"],
            low=0.0 - one["high"],
            high=0.0 - one["low"],
            same=100 * one["agreement"],
            **{key: time[key] for key in ("ttft_ms", "token_ms", "answer_ms", "ratio")},
            ratio_low=time["low"],
            ratio_high=time["high"],
        )
        for (name, directory), one, time in zip(directories.items(), asked, timed, strict=True)
    ]


def say(text: str) -> None:
    """Tells the person what is being done."""
    print(text, file=sys.stderr, flush=True)


def _end(process: subprocess.Popen[str], grace_s: float) -> None:
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.terminate()  # it unwinds, as after Ctrl-C


def _last_line(said: str) -> Any:
    return json.loads(said.splitlines()[-1])
