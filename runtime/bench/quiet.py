"""Load of other processes during a measurement: figures of a busy machine are marked as noisy."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

BUSY = 0.15  # cores: a repetition during which others used more is called noisy
LOOK_S = 0.25
IDLE, IOWAIT, FIELDS = 3, 4, 8  # of the first line of /proc/stat: user nice system idle iowait irq softirq steal

Result = TypeVar("Result")


def watched(work: Callable[[], Result]) -> tuple[Result, float | None]:
    """Does the work and watches the machine.

    Returns:
        What the work returns, and how many cores other processes used meanwhile: None where the system does not tell.
    """
    before, own, begin = _busy_seconds(), time.process_time(), time.perf_counter()
    result = work()
    seconds = time.perf_counter() - begin
    after = _busy_seconds()
    if before is None or after is None:
        return result, None
    others = after - before - (time.process_time() - own)
    # Each core's time is told in ticks: what is less than one was not seen.
    others -= (os.cpu_count() or 1) / os.sysconf("SC_CLK_TCK")
    return result, max(0.0, others / seconds)


def wait_until_quiet(longest_s: float) -> None:
    """Waits until other processes leave the cores alone, `longest_s` seconds at most."""
    end = time.monotonic() + longest_s
    while time.monotonic() < end:
        _, others = watched(lambda: time.sleep(LOOK_S))
        if others is None or others <= BUSY:
            return


def _busy_seconds() -> float | None:
    """Seconds all cores together were not idle since the machine started."""
    try:
        words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1 : 1 + FIELDS]
    except OSError:
        return None
    ticks = [int(word) for word in words]
    return (sum(ticks) - ticks[IDLE] - ticks[IOWAIT]) / os.sysconf("SC_CLK_TCK")
