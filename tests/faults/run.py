"""All fuzzers for a while: kills, bundles, images, checkpoints, long sessions, and what commands send and write.

    python -m tests.faults.run --minutes 30
    python -m tests.faults.run --minutes 5 --seed 7 --only kills --only bundles

Each gets its share of the time. Whatever falls short is printed with the command that repeats it; the end is a table of
how many were tried, held and fell short. Exit status 1 where something fell short. Without `--seed` it is the clock's.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from mobilevlm.engines.tables import markdown_table

# Imported where they are used: the processes that load images import this module, and their memory is measured.
KEPT = Path(__file__).resolve().parents[2] / "artifacts" / "faults"  # images that fell short
LEAST_CYCLES, LEAST_TURNS = 12, 60  # that slopes can be told from
SECONDS_A_JOB, LEAST_MINUTES = 30, 0.5
CYCLES, TURNS = 20, 300  # a minute, on a machine of two slow cores
MOST_KIB = {
    "cycle": 1000,
    "turn": 100,
}  # of a few rounds; a session that stays open takes several MiB, an image 144 KiB


@dataclass(frozen=True)
class Found:
    """Figures of a fuzzer.

    Attributes:
        tried: cases.
        fell_short: of those.
        note: what else to know.
    """

    tried: int
    fell_short: int
    note: str = ""


def kill(minutes: float, seed: int) -> Found:
    """Kills jobs at random moments; where there is no time for all, which ones depends on the seed."""
    from tests.faults import kill_jobs, kills

    known = kill_jobs.jobs()
    chosen = random.Random(seed).sample(known, min(len(known), 1 + int(60 * minutes / SECONDS_A_JOB)))
    found = kills.run_kills(chosen, seed, minutes)
    print(kills.table(found))
    return Found(
        sum(one[kills.KILLED] for one in found.values()),
        sum(one[kills.FAILED] for one in found.values()),
        f"{len(found)} of {len(known)} jobs",
    )


def mutate_bundles(minutes: float, seed: int) -> Found:
    """Opens and asks mutated bundles."""
    from tests.faults import bundles

    ends = bundles.run_cases([], seed, None, minutes)
    failed = ends.pop(("all", bundles.FAILED), 0)
    print(bundles.table(ends))
    return Found(sum(ends.values()), failed)


def change_images(minutes: float, seed: int) -> Found:
    """Loads changed images; those that fall short are kept."""
    from tests.faults import pictures

    found = pictures.run(seed, None, minutes)
    tried = sum(found.counts.values())
    for number, (name, what, content) in enumerate(found.failures):
        KEPT.mkdir(parents=True, exist_ok=True)
        path = KEPT / f"{seed}-{number}.{name.lower()}"
        path.write_bytes(content)
        print(f"python -m tests.faults.pictures --seed {seed} --count {tried}\n{path}: {what}")
    return Found(tried, len(found.failures), f"{found.counts['read']:,} read, {found.counts['refused']:,} refused")


def mutate_checkpoints(minutes: float, seed: int) -> Found:
    """Opens mutated checkpoints."""
    from tests.faults import checkpoints

    ends = checkpoints.run_cases(seed, None, say=True, minutes=minutes)
    held = ends["opened"] + ends["refused"]
    return Found(sum(ends.values()), sum(ends.values()) - held, f"{ends['opened']} opened, {ends['refused']} refused")


def go_on(minutes: float, seed: int) -> Found:
    """Opens a session again and again, and asks one turn after turn; `seed` decides nothing here."""
    if sys.platform != "linux":
        return Found(0, 0, "what a process holds is read from /proc: not here")
    if minutes < LEAST_MINUTES:
        return Found(0, 0, f"needs {LEAST_MINUTES} minutes")
    from mobilevlm.runtime import Session
    from tests.conftest import DEMO, build_here
    from tests.faults import soak

    number, count = max(LEAST_CYCLES, round(CYCLES * minutes / 2)), max(LEAST_TURNS, round(TURNS * minutes / 2))
    with tempfile.TemporaryDirectory() as folder:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            bundle = build_here("--model", DEMO, out=Path(folder) / "demo")
        opened = soak.growing(soak.cycles(bundle, number), MOST_KIB["cycle"])
        with Session(bundle, prefix_cache_bytes=2**22) as session:
            asked = soak.growing(soak.turns(session, count), MOST_KIB["turn"])
    for one in [*opened, *asked]:
        print(f"python -m tests.faults.soak --cycles {number} --turns {count}\n{one}")
    return Found(number + count, len(opened) + len(asked), f"{number} cycles, {count} turns")


def trace(minutes: float, seed: int) -> Found:
    """Traces commands as far as there is time; `seed` decides nothing here, as each needs what earlier ones made."""
    from tests.faults.jobs import jobs, prepare
    from tests.faults.network import findings
    from tests.faults.traced import Room, can_trace

    if not can_trace():
        return Found(0, 0, "strace is needed, and the right to trace")
    end, tried, failed = time.monotonic() + 60 * minutes, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        room = Room(Path(folder))
        prepare(room)
        for job in jobs():
            if time.monotonic() >= end:
                break
            done, tried = job.traced(room), tried + 1
            wrong = findings(done) + [f"exit status {done.returncode}: {done.said[-500:]}"] * (
                done.returncode != job.status
            )
            if wrong:
                failed += 1
                print(f"python -m tests.faults.network {Path(job.script).stem}\n{job.what}: {'; '.join(wrong)}")
    return Found(tried, failed, f"of {len(list(jobs()))} commands")


PARTS: dict[str, tuple[float, Callable[[float, int], Found]]] = {  # share of the time
    "kills": (0.4, kill),
    "bundles": (0.25, mutate_bundles),
    "images": (0.1, change_images),
    "checkpoints": (0.1, mutate_checkpoints),
    "sessions": (0.05, go_on),
    "network": (0.1, trace),
}


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        prog="bash run.sh faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30, metavar="N", help="for all together (default: 30)")
    parser.add_argument("--seed", type=int, metavar="S", help="of all of them (default: the clock's)")
    parser.add_argument("--only", action="append", choices=PARTS, help="this one alone; again for more")
    options = parser.parse_args()
    seed = int(time.time()) if options.seed is None else options.seed
    chosen = {name: PARTS[name] for name in options.only or PARTS}
    whole, rows, failed = sum(share for share, _ in chosen.values()), [], 0
    for name, (share, work) in chosen.items():
        minutes = options.minutes * share / whole
        print(f"\n{name}: {minutes:.1f} minutes, seed {seed}", flush=True)
        begin, found = time.monotonic(), work(minutes, seed)
        failed += found.fell_short
        figures = [found.tried, found.tried - found.fell_short, found.fell_short]
        rows.append([name, *(f"{figure:,}" for figure in figures), f"{time.monotonic() - begin:.0f}", found.note])
    print(f"\nseed {seed}\n" + markdown_table(["what", "tried", "held", "fell short", "seconds", ""], rows))
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
