"""Cost of looking for rot: decode rate with and without a scrubber that never pauses between two readings.

    python -m tests.faults.scrub_cost --engine DIR --minutes 5

Both are measured in turns in one process, each for a few tokens, so that whatever else the machine does meets both. A
third kind of turn is a second one without, which says how well this machine tells equal things apart. Time of the clock
is what a person waits for; CPU time of the whole process, scrubber included, says the same on a machine where other
programs decide about the clock.
"""

from __future__ import annotations

import argparse
import threading
import time
from pathlib import Path

import numpy as np

from mobilevlm.runtime import Session, scrubber
from mobilevlm.runtime.bench.intervals import interval

KINDS = ("without", "with", "without again")
SCRUBBED: list[tuple[float, float, int]] = []  # seconds of the clock, of its CPU time, and bytes


def seconds(session: Session, kind: str, tokens: int, context: int) -> tuple[float, float]:
    """Returns the seconds of the clock and of CPU time that some tokens take.

    Args:
        session: without a scrubber of its own.
        kind: of `KINDS`.
        tokens: how many.
        context: tokens before them.
    """
    running = scrubber.Scrubber(session.bundle) if kind == "with" else None
    row = session.decoder.embed((1,))
    session.decoder.decode(row, context)
    clock, core = time.perf_counter(), time.process_time()
    for number in range(tokens):
        session.decoder.decode(row, context + number)
    took = time.perf_counter() - clock, time.process_time() - core
    if running is not None:
        [thread] = [one for one in threading.enumerate() if one.name == "scrub" and one.ident is not None]
        read = Path(f"/proc/self/task/{thread.native_id}/io").read_text()
        core = time.clock_gettime(time.pthread_getcpuclockid(thread.ident or 0))
        SCRUBBED.append((took[0], core, int(read.split("rchar: ")[1].split()[0])))
        running.stop()
        if running.problem:
            raise SystemExit(running.problem)
    return took


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", required=True, metavar="DIR")
    parser.add_argument("--minutes", type=float, default=5, metavar="N")
    parser.add_argument("--tokens", type=int, default=16, metavar="N", help="of each turn (default: 16)")
    parser.add_argument("--context", type=int, default=204, metavar="N", help="tokens before them (default: 204)")
    arguments = parser.parse_args()
    scrubber.FIRST_AFTER_S = scrubber.PERIOD_S = 0.0
    found: list[list[tuple[float, float]]] = []
    with Session(arguments.engine, scrub=False) as session:
        end = time.monotonic() + arguments.minutes * 60
        while time.monotonic() < end:
            turns = [(0.0, 0.0)] * len(KINDS)
            for kind in np.roll(np.arange(len(KINDS)), len(found)):
                turns[kind] = seconds(session, KINDS[kind], arguments.tokens, arguments.context)
            found.append(turns)
    took = np.array(found)  # (rounds, kinds, clock and CPU time)
    print(f"{arguments.tokens / np.median(took[:, 0, 0]):.2f} tokens/s without (median of {len(took)} turns)")
    clock, core, size = (sum(column) for column in zip(*SCRUBBED, strict=True))
    print(f"the scrubber took {100 * core / clock:.2f} % of a core, and read {size / clock / 1e6:.2f} MB/s")
    for kind in (1, 2):
        for what, name in enumerate(("clock", "CPU time")):
            logs = np.log(took[:, 0, what] / took[:, kind, what])

            def drawn(rows: np.ndarray, logs: np.ndarray = logs) -> np.ndarray:
                return np.array([np.median(logs[row]) for row in rows])

            low, high = np.exp(interval(drawn, len(logs)))
            middle = np.exp(np.median(logs))
            print(f"tokens by {name} {KINDS[kind]}, by those without: {middle:.4f} ({low:.4f} to {high:.4f})")


if __name__ == "__main__":
    main()
