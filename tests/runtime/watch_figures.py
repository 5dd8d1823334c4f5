"""Figures of `runtime/watch.py` on a video whose events are known, for docs/watch.md.

    python -m tests.runtime.watch_figures --engine artifacts/demo-host --clip artifacts/clip.mp4
    python -m tests.runtime.watch_figures --clip artifacts/clip.mp4 --thresholds 1,2,4,8

The first watches the video twice, with the gate and without; the second opens and closes the gate alone.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobilevlm.runtime.camera.answer import ask
from mobilevlm.runtime.camera.change_gate import ChangeGate, GateLimits
from mobilevlm.runtime.camera.event import Event
from mobilevlm.runtime.camera.hysteresis import Hysteresis
from mobilevlm.runtime.camera.sources import source_of
from mobilevlm.runtime.camera.watcher import Counts, Watcher
from mobilevlm.runtime.session import Session

LATEST_S = 1.0  # an event that comes later than this after its change is missed


@dataclass(frozen=True)
class Watched:
    """What watching a video gave: `rss_mib` after each tenth of the frames."""

    counts: Counts
    events: list[Event]
    cpu_s: float
    rss_mib: list[float]


def rss_mib() -> float:
    """Resident memory of this process now, on Linux."""
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4096 / 2**20


def read_truth(clip: Path) -> dict[str, Any]:
    return json.loads(clip.with_suffix(".json").read_text())


def watch(session: Session, clip: Path, gate: ChangeGate | None, hold: int = 1) -> Watched:
    """Watches a video frame by frame, without waiting."""
    truth, events = read_truth(clip), []
    question, choices = truth["question"], truth["choices"]
    watcher = Watcher(
        lambda image: ask(session, question, image, choices),
        question,
        gate=gate,
        hysteresis=Hysteresis(hold),
        sinks=[events.append],
    )
    every, rss = max(1, round(truth["seconds"] * truth["fps"]) // 10), []
    begin = time.process_time()
    with closing(source_of(str(clip)).frames()) as frames:
        for frame in frames:
            watcher.see(frame)
            if watcher.counts.seen % every == 0:
                rss.append(rss_mib())
    return Watched(watcher.counts, events, time.process_time() - begin, rss)


def expected(truth: dict[str, Any]) -> list[tuple[float, str]]:
    """Time and answer of every true event, that of the first frame included."""
    found: list[tuple[float, str]] = []
    for change in truth["changes"]:
        if not found or change["answer"] != found[-1][1]:
            found.append((change["time_s"], change["answer"]))
    return found


def judge(truth: dict[str, Any], events: Sequence[Event]) -> tuple[list[tuple[float, str]], list[Event]]:
    """True events that were missed, and events that were false."""
    missed, rest = [], list(events)
    for time_s, answer in expected(truth):
        hit = next((e for e in rest if e.answer == answer and 0 <= e.frame_time_s - time_s < LATEST_S), None)
        if hit is None:
            missed.append((time_s, answer))
        else:
            rest.remove(hit)
    return missed, rest


def openings(clip: Path, gate: ChangeGate) -> tuple[int, int, float, float, float]:
    """A gate alone: missed changes, needless openings, its largest score without a change, its smallest at one, cost.

    The cost is CPU milliseconds a frame.
    """
    truth = read_truth(clip)
    times = [change["time_s"] for change in truth["changes"]]
    waiting, needless, quiet, loud, spent, count = set(times), 0, 0.0, float("inf"), 0.0, 0
    with closing(source_of(str(clip)).frames()) as frames:
        for frame in frames:
            begin = time.process_time()
            opens = gate.has_changed(frame)
            spent, count = spent + time.process_time() - begin, count + 1
            at_change = [one for one in waiting if 0 <= frame.time - one < LATEST_S]
            if at_change and frame.number:
                loud = min(loud, gate.score)
            elif frame.number:
                quiet = max(quiet, gate.score)
            if opens:
                gate.ask_about()
                needless += not at_change
                waiting -= set(at_change)
    return len(waiting), needless, quiet, loud, spent / count * 1e3


def report(name: str, clip: Path, watched: Watched, say: Callable[[str], object] = print) -> None:
    """Prints what watching a video gave."""
    missed, false = judge(read_truth(clip), watched.events)
    counts = watched.counts
    say(
        f"{name}: {counts.seen} frames, asked about {counts.asked}, {counts.events} events, missed {missed}, "
        f"false {[(e.frame_time_s, e.answer) for e in false]}; CPU {watched.cpu_s:.1f} s, of it {counts.answer_s:.1f} "
        f"s answers ({counts.answer_s / counts.asked * 1e3:.1f} ms each) and {counts.gate_s:.2f} s gate "
        f"({counts.gate_s / counts.seen * 1e3:.3f} ms a frame); RSS {[round(one, 1) for one in watched.rss_mib]} MiB"
    )


def main() -> None:
    self = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    self.add_argument("--engine", type=Path)
    self.add_argument("--clip", type=Path, required=True)
    self.add_argument("--hold", type=int, default=1)
    self.add_argument("--thresholds", default="")
    arguments = self.parse_args()
    for threshold in filter(None, arguments.thresholds.split(",")):
        slept, needless, quiet, loud, ms = openings(arguments.clip, ChangeGate(GateLimits(threshold=float(threshold))))
        print(
            f"threshold {threshold}: slept through {slept}, needless {needless}, largest score without a change "
            f"{quiet:.2f}, smallest at one {loud:.2f}, {ms:.3f} ms",
            flush=True,
        )
    if arguments.engine is not None:
        with Session(arguments.engine) as session:
            with_gate = watch(session, arguments.clip, ChangeGate(), arguments.hold)
            report("with the gate", arguments.clip, with_gate)
            without = watch(session, arguments.clip, None, arguments.hold)
            report("without", arguments.clip, without)
            print(f"CPU time without the gate over that with it: {without.cpu_s / with_gate.cpu_s:.1f}")


if __name__ == "__main__":
    main()
