"""The steps of `smoke.py`: programs of this project in separate processes, with time limits, and what they find."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mobilevlm.engines.bundle import Bundle

from .smoke_answers import ALL, FEW, IMAGES

DEMO = "demo"  # the name of a bundle of assets/demo; what other models say takes a CPU hours
FIRST, SECOND = "first start", "second start"
VERIFY, ANSWERS, ON_CPU, BENCHMARK = "verify", "answers", "answers on the CPU", "benchmark"
# Seconds that a step may take, 570 in all.
LIMITS = {FIRST: 120, VERIFY: 90, ANSWERS: 60, ON_CPU: 120, BENCHMARK: 120, SECOND: 60}
# Where kernels are kept between starts, by us and by CUDA's driver: in new folders, so that the first is a first one.
CACHES = {"XDG_CACHE_HOME": "user", "CUDA_CACHE_PATH": "driver"}
KERNELS = ("user/mobilevlm/kernels", "driver")
BENCHMARK_OPTIONS = ("--repeats", "3", "--decode-tokens", "16", "--wait", "0")
QUESTION = "What is in the picture?"


@dataclass(frozen=True)
class Outcome:
    """Outcome of a step.

    Attributes:
        name: a key of `LIMITS`.
        seconds: from the start of its process to its end.
        limit_s: most seconds that it may take.
        problem: why it failed; empty when all is well.
        left_out: why it was not run.
        summary: for people.
        figures: what it found.
    """

    name: str
    seconds: float = 0.0
    limit_s: float = 0.0
    problem: str = ""
    left_out: str = ""
    summary: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


class Wrong(Exception):
    """A step ended well, and what it found is not right; the message says what.

    Args:
        message: what is wrong.
        figures: what it found.

    Attributes:
        figures: as above.
    """

    def __init__(self, message: str, figures: dict[str, Any]):
        super().__init__(message)
        self.figures = figures


# Turns what a step printed into figures and a summary in one line.
Read = Callable[[str], tuple[dict[str, Any], str]]


def smoke(bundle: Bundle, tell: Callable[[str], object]) -> list[Outcome]:
    """Runs all steps, in order.

    Args:
        bundle: to be tried.
        tell: gets a line about what is begun.
    """
    found: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory() as caches:
        environment = os.environ | {name: str(Path(caches, folder)) for name, folder in CACHES.items()}

        def step(name: str, words: Sequence[str | Path], read: Read) -> None:
            tell(f"{name}, at most {LIMITS[name]:g} s")
            found[name] = run_step(name, words, environment, read)

        step(FIRST, _start(bundle), lambda said: _read_start(said, Path(caches), None))
        step(VERIFY, [_program("verify"), "--engine", bundle.directory], _read_verify)
        if bundle.manifest.name == DEMO:
            words = [_program("smoke_answers"), bundle.directory]
            step(ANSWERS, words, _read_answers)
            if found[ANSWERS].figures:
                device = found[ANSWERS].figures[ALL]
                step(ON_CPU, [*words, "--on-cpu"], lambda said: _compared(device, json.loads(said)[ALL]))
            else:
                found[ON_CPU] = Outcome(ON_CPU, left_out="there is nothing to compare with")
        else:
            for name in (ANSWERS, ON_CPU):
                found[name] = Outcome(name, left_out="for the demo model alone")
        step(BENCHMARK, [_program("benchmark"), "--engine", bundle.directory, *BENCHMARK_OPTIONS], _read_benchmark)
        step(SECOND, _start(bundle), lambda said: _read_start(said, Path(caches), found[FIRST]))
    return list(found.values())


def run_step(name: str, words: Sequence[str | Path], environment: Mapping[str, str], read: Read) -> Outcome:
    """Runs a Python program, for as long as `LIMITS` allows, and reads what it prints.

    Args:
        name: of the step.
        words: the program and its arguments.
        environment: variables of its process.
        read: turns what it prints into figures and a summary.
    """
    begin, limit = time.perf_counter(), LIMITS[name]
    said, problem = _run([sys.executable, *map(str, words)], environment, limit)
    seconds, summary = time.perf_counter() - begin, ""
    found: dict[str, Any] = {}
    if not problem:
        try:
            found, summary = read(said)
        except Wrong as error:
            found, problem = error.figures, str(error)
    return Outcome(name, round(seconds, 2), limit, problem, "", summary, found)


def _run(words: Sequence[str], environment: Mapping[str, str], limit_s: float) -> tuple[str, str]:
    """Returns what a process printed to stdout, and what went wrong with it."""
    own_group = os.name == "posix"  # of processes, which ends with it: a benchmark starts some
    process = subprocess.Popen(
        words,
        env=environment,
        start_new_session=own_group,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    )
    try:
        said, complaint = process.communicate(timeout=limit_s)
    except BaseException as error:
        if own_group:
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            return "", f"stopped after {limit_s:g} s"
        raise
    if process.returncode:
        lines = complaint.strip().splitlines()
        return "", lines[-1] if lines else f"it ended with status {process.returncode}"
    return said, ""


def _program(name: str) -> Path:
    return Path(__file__).with_name(f"{name}.py")


def _start(bundle: Bundle) -> list[str | Path]:
    image: list[str | Path] = ["--image", IMAGES / "00.jpg"] if bundle.has_vision else []
    options = ["--prompt", QUESTION, "--max-new-tokens", "8", "--no-check", "--json"]
    return [_program("chat"), "--engine", bundle.directory, *image, *options]


def _read_start(said: str, caches: Path, before: Outcome | None) -> tuple[dict[str, Any], str]:
    """Reads an answer, and counts the kernels that were kept for the next start."""
    answer = json.loads(said)
    ours, drivers = (
        [path.stat().st_size for path in (caches / folder).rglob("*") if path.is_file()] for folder in KERNELS
    )
    found = {"answer": answer["answer"], "ttft_ms": answer["statistics"]["ttft_ms"]}
    found |= {"kernel_files": len(ours), "kernel_bytes": sum(ours), "driver_bytes": sum(drivers)}
    if before is not None and before.figures and before.figures["answer"] != found["answer"]:
        raise Wrong(f"it said {found['answer']!r}, at the first start {before.figures['answer']!r}", found)
    return found, f"first token {found['ttft_ms']:.0f} ms after the question, {sum(ours) / 1e6:.1f} MB of kernels kept"


def _read_verify(said: str) -> tuple[dict[str, Any], str]:
    lines = said.splitlines()
    return {"lines": lines}, lines[-1]


def _read_answers(said: str) -> tuple[dict[str, Any], str]:
    found = json.loads(said)
    if found.get(FEW) != found[ALL]:
        raise Wrong(f"chosen from few logits: {_first_difference(found.get(FEW, []), found[ALL])}", found)
    return found, f"{len(found[ALL])} questions, the same from few logits and from all"


def _compared(device: list[dict[str, Any]], cpu: list[dict[str, Any]]) -> tuple[dict[str, Any], str]:
    same = sum(here["text"] == there["text"] for here, there in zip(device, cpu, strict=True))
    found = {"same": same, "of": len(cpu), ALL: cpu}
    if same != len(cpu):
        raise Wrong(f"{same} of {len(cpu)} answers are the CPU's: {_first_difference(device, cpu)}", found)
    return found, f"{same} of {len(cpu)} are the CPU's"


def _first_difference(here: list[dict[str, Any]], there: list[dict[str, Any]]) -> str:
    for one, other in zip(here, there, strict=False):
        if one != other:
            return f"to {one['question']!r} it says {one['text']!r}, not {other['text']!r}"
    return f"{len(here)} answers, not {len(there)}"


def _read_benchmark(said: str) -> tuple[dict[str, Any], str]:
    (engine,) = json.loads(said.splitlines()[-1])["engines"]
    stages = engine["stages"]
    parts = [f"{name} {stages[name]['ms']['median']:.1f} ms" for name in ("image encode", "prefill") if name in stages]
    decode = next(stage for name, stage in stages.items() if re.match("decode after", name))
    return stages, ", ".join([*parts, f"{decode['tokens_per_s']['median']:.0f} tokens/s"])
