"""What a benchmark on a board does to an engine bundle, and what it brings home: times, memory, power while at it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mobilevlm.runtime.bench.engine import SEED, Engine
from mobilevlm.runtime.bench.workers import Worker
from mobilevlm.runtime.sampling import Sampling
from mobilevlm.runtime.session import Session

from .clocks import gpu_clock
from .power import Sample, Sampler, open_source
from .sysfs import ROOT
from .thermal import over_current_events, zones
from .throttling import Throttling, look_for_throttling

IDLE_S = 3.0  # of power before anything is opened
ANSWERS_S = 10.0  # of answers for the joules of one: power monitors are slow, one answer may last half a second
SESSION_QUESTION, SESSION_TOKENS = "What is in the picture?", 16


@dataclass(frozen=True)
class Window:
    """A stretch of time, in seconds of `time.perf_counter`, and how many answers were given in it."""

    begin_s: float
    end_s: float
    answers: int = 0


@dataclass(frozen=True)
class Measured:
    """Everything that was measured.

    Attributes:
        start: of `Engine.start`.
        repetitions: of `Engine.run`.
        session: statistics of answers through `Session`, one for each repetition.
        memory: of `Engine.warm_up`, and `system_mib`: by how much the memory available to all shrank meanwhile.
        samples: of the board, from before anything was opened to the end.
        idle, answering: before anything was opened, and while answers were given one after the other.
        throttling: what slowed the board down.
    """

    start: dict[str, float]
    repetitions: list[dict[str, Any]]
    session: list[dict[str, float]]
    memory: dict[str, float | None]
    samples: list[Sample]
    idle: Window
    answering: Window
    throttling: Throttling


def measure(
    worker: Worker, repeats: int, tell: Callable[[str], object], answers_s: float = ANSWERS_S, root: Path = ROOT
) -> Measured:
    """Idle, warm up, repetitions, answers in a row, answers through a session, opening anew.

    Args:
        worker: with an `Engine` that nothing was done with.
        repeats: repetitions that count.
        tell: gets a line about what is being waited for.
        answers_s: seconds of answers in a row.
        root: where the board is looked at.
    """
    clock, counted = gpu_clock(root), over_current_events(root)
    with Sampler(open_source(root)) as sampler:
        tell("idle, for power")
        idle = _idle()
        tell("warming up, the whole context once")
        worker.call(Engine.load)
        memory = worker.call(Engine.warm_up)
        repetitions = []
        for number in range(repeats):
            tell(f"repetition {number + 1} of {repeats}")
            repetitions.append(worker.call(Engine.run))
        tell("answers in a row, for the energy of one")
        answering = _answers(worker, answers_s)
        tell("answers through a session")
        session = worker.call(session_answers, repeats)
        tell("opening it anew")
        start = worker.call(Engine.start)
        worker.call(Engine.close)
    samples = sampler.samples()
    return Measured(
        start,
        repetitions,
        session,
        memory | {"system_mib": _taken_mib(samples, idle)},
        samples,
        idle,
        answering,
        look_for_throttling(samples, clock, zones(root), counted, over_current_events(root)),
    )


def _idle() -> Window:
    begin = time.perf_counter()
    time.sleep(IDLE_S)
    return Window(begin, time.perf_counter())


def _answers(worker: Worker, seconds: float) -> Window:
    begin, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - begin < seconds:
        worker.call(answer)
        count += 1
    return Window(begin, time.perf_counter(), count)


def answer(engine: Engine) -> None:
    """One answer of fixed length: picture, prompt, and as many tokens behind the first as the plan decodes."""
    engine.question()
    engine.decode(engine.plan.prompt_tokens)


def session_answers(engine: Engine, repeats: int) -> list[dict[str, float]]:
    """Ask through `Session`, as chat does, each time about another picture; one answer before them is not counted.

    Returns:
        `ttft_ms`, `image_encode_ms`, `prefill_ms`, `prompt_tokens` and `new_tokens` of each.
    """
    engine.close()  # a board may not have the memory for both
    draws, found = np.random.default_rng(SEED), []
    names = ("ttft_ms", "image_encode_ms", "prefill_ms", "prompt_tokens", "new_tokens")
    with Session(engine.directory) as session:
        shape = None
        if session.bundle.has_vision:
            size = session.config.vision.image_size
            shape = (1, 3, size, size)
        for _ in range(1 + repeats):
            picture = draws.standard_normal(shape, np.float32) if shape else None
            reply = session.chat(SESSION_QUESTION, picture, sampling=Sampling(), max_new_tokens=SESSION_TOKENS)
            for _piece in reply:
                pass
            found.append({name: getattr(reply.statistics, name) for name in names})
    return found[1:]


def _taken_mib(samples: list[Sample], idle: Window) -> float | None:
    """Memory that was there while idle and not at the worst moment behind: CPU and GPU share it."""
    free = [(one.at_s, one.available_mib) for one in samples if one.available_mib is not None]
    before = [mib for at_s, mib in free if at_s <= idle.end_s]
    after = [mib for at_s, mib in free if at_s > idle.end_s]
    return float(np.median(before)) - min(after) if before and after else None
