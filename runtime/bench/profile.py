"""ONNX Runtime's own profile, a table of operators for each stage."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .engine import Engine

RUNS = 5  # that count, of encode and prefill
BETWEEN = "(between operators)"


@dataclass(frozen=True)
class OperatorTime:
    """An operator's part of a stage.

    Attributes:
        operator: its type, or `(between operators)`.
        count: how often it runs in one run of the stage.
        ms: all of these together, mean over the runs, the profiler's own cost included.
        share: of the run.
    """

    operator: str
    count: float
    ms: float
    share: float


def profile_stages(engine: Engine) -> dict[str, list[OperatorTime]]:
    """The operators of each stage, those that take longest first; see `operator_times`. The engine is closed then."""
    prompt = engine.plan.prompt_tokens

    def prefill(times: int) -> None:
        image_embeds = engine.encode()
        for _ in range(times):
            engine.prefill(image_embeds)

    work: dict[str, Callable[[], object]] = {
        "image encode": lambda: [engine.encode() for _ in range(1 + RUNS)],
        "prefill": lambda: prefill(1 + RUNS),
        "decode": lambda: (prefill(1), engine.decode(prompt)),
    }
    tables = {stage: _profile(engine, what) for stage, what in work.items()}
    return {stage: table for stage, table in tables.items() if table}


def _profile(engine: Engine, work: Callable[[], object]) -> list[OperatorTime]:
    with tempfile.TemporaryDirectory() as folder:
        engine.load(Path(folder))
        work()
        engine.close()  # a session writes its profile when it ends
        return operator_times([json.loads(path.read_bytes()) for path in sorted(Path(folder).iterdir())])


def operator_times(profiles: list[list[dict[str, Any]]]) -> list[OperatorTime]:
    """Mean times of the operators in all runs but each session's first, which warms up, or does another stage.

    Args:
        profiles: events of the sessions a stage runs one after the other, as ONNX Runtime writes them.

    Returns:
        Rows that sum up to the mean duration of the stage; none when no session ran twice.
    """
    counts, milliseconds, total = defaultdict(float), defaultdict(float), 0.0
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
