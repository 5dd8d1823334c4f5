"""Months in minutes: a session that is opened and closed, and asked turn after turn; what grows with the number?

    python -m tests.faults.soak --turns 1000 --cycles 100

Memory, open files and threads are noted on the way. Each has a slope, the growth a turn or a cycle, with the middle
95 % of slopes over noted blocks drawn again with replacement. What still grows when the first half is over leaks.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobilevlm.pages import trim_heap
from mobilevlm.runtime import Sampling, Session
from mobilevlm.runtime.bench.intervals import interval
from mobilevlm.runtime.dialogue import Dialogue
from tests.conftest import DEMO, ROOT, build_here

BLOCKS = 40  # that a run is noted in
IMAGE = ROOT / "assets" / "shapes.png"
MEMORY, COUNTED = "memory (KiB)", ("open files", "threads", "threads of Python")
QUESTIONS = ("What color is the circle?", "How many shapes are there?", "Where is it?", "Tell me about it.")


@dataclass(frozen=True)
class Slope:
    """Growth of one thing with each round.

    Attributes:
        name: what was noted.
        value: growth a round.
        low, high: ends of its interval.
        last: what it was at the end.
    """

    name: str
    value: float
    low: float
    high: float
    last: float

    def __str__(self) -> str:
        return f"{self.name}: {self.value:+.4f} a round ({self.low:+.4f} to {self.high:+.4f}), {self.last:g} at the end"


def noted() -> dict[str, float]:
    """What this process holds now: resident KiB, open files, threads of the system and of Python.

    What was freed is given back to the system first: a leak that fills freed memory would not be seen.
    """
    gc.collect()
    trim_heap()
    return held() | {"threads of Python": float(threading.active_count())}


def held(process: int | str = "self") -> dict[str, float]:
    """What a process holds now, on Linux: resident KiB, open files and threads of the system."""
    place = Path("/proc") / str(process)
    status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
    return {
        MEMORY: float(status["VmRSS"].split()[0]),
        "open files": float(len(list((place / "fd").iterdir()))),
        "threads": float(status["Threads"]),
    }


def slopes(rounds: int, work: Callable[[int], object]) -> list[Slope]:
    """Do work round after round; slopes over the second half, when what is filled once is full.

    Args:
        rounds: how often.
        work: called with the number of the round.
    """
    places, found = [], []
    for number in range(rounds):
        work(number)
        if (number + 1) % max(1, rounds // BLOCKS) == 0 and number >= rounds // 2:
            places.append(number)
            found.append(noted())
    return fitted(places, found)


def fitted(places: Sequence[float], found: Sequence[Mapping[str, float]]) -> list[Slope]:
    """Slopes of what was noted.

    Args:
        places: rounds or times.
        found: what was noted at each, by name.
    """
    at = np.array(places, float)
    result = []
    for name in found[0]:
        values = np.array([one[name] for one in found])

        def drawn(rows: np.ndarray, values: np.ndarray = values) -> np.ndarray:
            return np.array([slope(at[row], values[row]) for row in rows])

        result.append(Slope(name, slope(at, values), *interval(drawn, len(at)), values[-1]))
    return result


def slope(places: np.ndarray, values: np.ndarray) -> float:
    """Least-squares slope; 0 where all places are the same.

    Args:
        places: numbers of rounds.
        values: noted there.
    """
    apart = places - places.mean()
    return float(apart @ (values - values.mean()) / (apart @ apart)) if apart.any() else 0.0


def turns(session: Session, count: int) -> list[Slope]:
    """Slopes over turns of conversations: greedy, sampled, left early, closed, refused, with and without images.

    Args:
        session: with a prefix cache.
        count: of turns.
    """
    draws, talk = np.random.default_rng(0), [Dialogue(session)]
    picture = draws.standard_normal((1, 3, *[session.config.tower.image_size] * 2)).astype(np.float32)

    def turn(number: int) -> None:
        question = QUESTIONS[number % len(QUESTIONS)]
        picture[0, 0, 0, 0] = number % 50  # another image, of more than are kept
        kind = number % 10
        if kind == 0:
            talk[0] = Dialogue(session)
        if kind == 3:
            session.choose(question, ["red", "blue"], picture)
        elif kind == 5:
            next(iter(session.chat(question, IMAGE, sampling=Sampling(temperature=1.0, seed=number))))
        elif kind == 7:
            try:
                session.chat("word " * 5000)
            except ValueError:
                return
        else:
            "".join(talk[0].ask(question, picture if kind % 2 else None, max_new_tokens=12))

    return slopes(count, turn)


def cycles(bundle: Path, count: int) -> list[Slope]:
    """Slopes over openings, each with an answer.

    Args:
        bundle: what is opened.
        count: how often.
    """

    def cycle(number: int) -> None:
        with Session(bundle, prefix_cache_bytes=2**20 * (number % 2)) as session:
            "".join(session.chat(QUESTIONS[0], IMAGE, max_new_tokens=4))

    return slopes(count, cycle)


def growing(found: list[Slope], most_kib: float) -> list[str]:
    """What grows for certain: files or threads at all, memory by more than `most_kib` a round."""
    counted = [one for one in found if one.name in COUNTED and not one.low <= 0 <= one.high]
    return [str(one) for one in [*counted, *(one for one in found if one.name == MEMORY and one.low >= most_kib)]]


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", metavar="DIR", help="a bundle; without it one of the demo model is built")
    parser.add_argument("--turns", type=int, default=1000, metavar="N")
    parser.add_argument("--cycles", type=int, default=100, metavar="N")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(arguments.engine) if arguments.engine else build_here("--model", DEMO, out=Path(folder) / "demo")
        print(f"{arguments.cycles} cycles of opening and closing", *cycles(bundle, arguments.cycles), sep="\n  ")
        with Session(bundle, prefix_cache_bytes=2**24, scrub=False) as session:  # which opens a file while it reads
            print(f"{arguments.turns} turns", *turns(session, arguments.turns), sep="\n  ", flush=True)


if __name__ == "__main__":
    main()
