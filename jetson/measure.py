"""Measures an engine bundle on a board: times, memory, and power while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobilevlm.runtime.bench.rounds import Measured, Subject
from mobilevlm.runtime.bench.timed_bundle import SEED, TimedBundle
from mobilevlm.runtime.bench.workers import Worker
from mobilevlm.runtime.sampling import Sampling
from mobilevlm.runtime.session import Session

from .clocks import gpu_clock
from .power import PowerSampler, Sample, open_source
from .sysfs import ROOT
from .thermal import over_current_events, zones
from .throttling import Throttling, look_for_throttling

IDLE_S = 3.0  # of power before anything is opened
ANSWERS_S = 10.0  # of answers for the joules of one: power monitors are slow, one answer may last half a second
SESSION_QUESTION, SESSION_TOKENS = "What is in the picture?", 16


@dataclass(frozen=True)
class Window:
    """A period of time, in seconds of `time.perf_counter`, and the number of answers given in it."""

    begin_s: float
    end_s: float
    answers: int = 0


@dataclass(frozen=True)
class BoardRun:
    """Everything that was measured on a board.

    Attributes:
        bundle: times and memory of the bundle; it was started once.
        session: statistics of answers through `Session`, one for each repetition.
        system_mib: decrease of the memory available to all, CPU and GPU, in MiB; None where it is not told.
        samples: of the board, from before the bundle was opened to the end.
        idle, answering: before the bundle was opened, and while answers were given one after the other.
        throttling: what slowed the board down.
    """

    bundle: Measured
    session: list[dict[str, float]]
    system_mib: float | None
    samples: list[Sample]
    idle: Window
    answering: Window
    throttling: Throttling

    @property
    def memory(self) -> dict[str, float | None]:
        """Memory of the process and of the system, in MiB."""
        peaks = self.bundle.memory
        return {
            "peak_rss_mib": peaks["peak_rss_mib"],
            "peak_rss_full_mib": peaks["peak_rss_full_mib"],
            "system_mib": self.system_mib,
        }


def measure(
    worker: Worker[TimedBundle],
    repeats: int,
    tell: Callable[[str], object],
    answers_s: float = ANSWERS_S,
    root: Path = ROOT,
) -> BoardRun:
    """Measures idle power, repetitions, answers in a row, answers through a session, and opening anew.

    Args:
        worker: with a `TimedBundle` that nothing was done with.
        repeats: number of repetitions that count.
        tell: receives a line about what is being waited for.
        answers_s: seconds of answers in a row.
        root: `/`, or where a board's tree was copied to.
    """
    clock, counted, subject = gpu_clock(root), over_current_events(root), Subject(worker)
    with PowerSampler(open_source(root)) as sampler:
        tell("idle, for power")
        idle = _idle()
        tell("warming up, the whole context once")
        subject.warm_up()
        for number in range(repeats):
            tell(f"repetition {number + 1} of {repeats}")
            subject.repeat()
        tell("answers in a row, for the energy of one")
        answering = _answers(worker, answers_s)
        tell("answers through a session")
        session = worker.call(session_answers, repeats)
        tell("opening it anew")
        subject.start()
        worker.call(TimedBundle.close)
    samples = sampler.samples()
    throttling = look_for_throttling(samples, clock, zones(root), counted, over_current_events(root))
    return BoardRun(subject.measured, session, _taken_mib(samples, idle), samples, idle, answering, throttling)


def _idle() -> Window:
    begin = time.perf_counter()
    time.sleep(IDLE_S)
    return Window(begin, time.perf_counter())


def _answers(worker: Worker[TimedBundle], seconds: float) -> Window:
    begin, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - begin < seconds:
        worker.call(TimedBundle.answer)
        count += 1
    return Window(begin, time.perf_counter(), count)


def session_answers(subject: TimedBundle, repeats: int) -> list[dict[str, float]]:
    """Asks through `Session`, as chat does, each time about another image; one answer before them is not counted.

    Args:
        subject: the bundle; closed here, since a board may not have the memory for both.
        repeats: number of answers that count.

    Returns:
        `ttft_ms`, `image_encode_ms`, `prefill_ms`, `prompt_tokens` and `new_tokens` of each answer.
    """
    subject.close()
    draws, found = np.random.default_rng(SEED), []
    names = ("ttft_ms", "image_encode_ms", "prefill_ms", "prompt_tokens", "new_tokens")
    with Session(subject.directory) as session:
        vision = session.config.vision if session.bundle.has_vision else None
        for _ in range(1 + repeats):
            image = None
            if vision is not None:
                image = draws.standard_normal((1, 3, vision.image_size, vision.image_size), np.float32)
            reply = session.chat(SESSION_QUESTION, image, sampling=Sampling(), max_new_tokens=SESSION_TOKENS)
            for _piece in reply:
                pass
            found.append({name: getattr(reply.statistics, name) for name in names})
    return found[1:]


def _taken_mib(samples: list[Sample], idle: Window) -> float | None:
    """Memory that was available while idle, less the least that was available afterwards: CPU and GPU share it."""
    free = [(one.at_s, one.available_mib) for one in samples if one.available_mib is not None]
    before = [mib for at_s, mib in free if at_s <= idle.end_s]
    after = [mib for at_s, mib in free if at_s > idle.end_s]
    return float(np.median(before)) - min(after) if before and after else None
