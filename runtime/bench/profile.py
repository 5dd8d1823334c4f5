"""Operators of each stage and their times, from ONNX Runtime's profiler."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .stages import ENCODE, PREFILL
from .timed_bundle import TimedBundle

RUNS = 5  # that count, of encode and prefill
BETWEEN = "(between operators)"


@dataclass(frozen=True)
class OperatorTime:
    """Time of an operator in a stage.

    Attributes:
        operator: its type, or `(between operators)`.
        count: number of times it runs in one run of the stage.
        ms: milliseconds of all of these, mean over the runs, the profiler's own cost included.
        share: part of the run, 0 to 1.
    """

    operator: str
    count: float
    ms: float
    share: float


def profile_stages(subject: TimedBundle) -> dict[str, list[OperatorTime]]:
    """Profiles each stage and closes the bundle; see `operator_times`."""

    def encode(times: int) -> None:
        for _ in range(times):
            subject.encode()

    def prefill(times: int) -> None:
        image_embeds = subject.encode()
        for _ in range(times):
            subject.prefill(image_embeds)

    def decode() -> None:
        prefill(1)
        subject.decode(subject.plan.prompt_tokens)

    work: dict[str, Callable[[], None]] = {
        ENCODE: lambda: encode(1 + RUNS),
        PREFILL: lambda: prefill(1 + RUNS),
        "decode": decode,
    }
    tables = {stage: _profile(subject, what) for stage, what in work.items()}
    return {stage: table for stage, table in tables.items() if table}


def _profile(subject: TimedBundle, work: Callable[[], None]) -> list[OperatorTime]:
    with tempfile.TemporaryDirectory() as folder:
        subject.load(Path(folder))
        work()
        subject.close()  # a session writes its profile when it ends
        return operator_times([json.loads(path.read_bytes()) for path in sorted(Path(folder).iterdir())])


def operator_times(profiles: list[list[dict[str, Any]]]) -> list[OperatorTime]:
    """Computes mean times of operators over all runs but each session's first, which warms up or does another stage.

    Args:
        profiles: events of the sessions that a stage runs one after the other, as ONNX Runtime writes them.

    Returns:
        Rows that sum up to the mean duration of the stage, the longest first; none when no session ran twice.
    """
    counts: defaultdict[str, float] = defaultdict(float)
    milliseconds: defaultdict[str, float] = defaultdict(float)
    total = 0.0
    for events in profiles:
        runs = sorted((event["ts"], event["ts"] + event["dur"]) for event in events if event["name"] == "model_run")[1:]
        nodes = [event for event in events if event.get("cat") == "Node"]
        counted = [event for event in nodes if any(begin <= event["ts"] < end for begin, end in runs)]
        total += sum(end - begin for begin, end in runs) / 1e3 / max(1, len(runs))
        for operator in {event["args"]["op_name"] for event in counted}:
            times = [event["dur"] for event in counted if event["args"]["op_name"] == operator]
            counts[operator] += len(times) / len(runs)
            milliseconds[operator] += sum(times) / 1e3 / len(runs)
    if not total:
        return []
    counts[BETWEEN], milliseconds[BETWEEN] = 1.0, total - sum(milliseconds.values())
    rows = [OperatorTime(name, counts[name], ms, ms / total) for name, ms in milliseconds.items()]
    return sorted(rows, key=lambda row: row.ms, reverse=True)
