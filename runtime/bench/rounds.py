"""The order of measuring: bundles take turns in rounds, so that what changes on the machine meanwhile touches all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from .limits import Limits, Machine, best_of
from .timed_bundle import PeakMemory, Repetition, Start, TimedBundle
from .workers import Worker


def _not_told() -> PeakMemory:
    return {"peak_rss_mib": None, "peak_rss_full_mib": None}


@dataclass
class Measured:
    """What was measured of one bundle.

    Attributes:
        starts: times of `TimedBundle.start`.
        memory: returned by `TimedBundle.warm_up`.
        repetitions: times of `TimedBundle.run`.
    """

    starts: list[Start] = field(default_factory=list)
    memory: PeakMemory = field(default_factory=_not_told)
    repetitions: list[Repetition] = field(default_factory=list)

    @property
    def other_cores(self) -> list[float | None]:
        """Cores that other processes used during each repetition."""
        return [one["other_cores"] for one in self.repetitions]


class Subject:
    """A bundle that is measured in a process of its own, and what was measured so far.

    Args:
        worker: with a `TimedBundle` that nothing was done with.

    Attributes:
        worker: as above.
        measured: times and memory.
    """

    def __init__(self, worker: Worker[TimedBundle]):
        self.worker, self.measured = worker, Measured()

    def warm_up(self) -> None:
        """Opens the bundle and runs it once, up to a full kv cache."""
        self.worker.call(TimedBundle.load)
        self.measured.memory = self.worker.call(TimedBundle.warm_up)

    def repeat(self) -> None:
        """Runs one repetition."""
        self.measured.repetitions.append(self.worker.call(TimedBundle.run))

    def start(self) -> None:
        """Opens the bundle anew and asks a first question."""
        self.measured.starts.append(self.worker.call(TimedBundle.start))


def rounds(count: int, repeats: int) -> Iterator[tuple[int, list[int]]]:
    """Yields the number of each round, from 1, and the order of turns in it: begun one later in every round.

    Args:
        count: number of those that take turns, 0 to count - 1.
        repeats: number of rounds.
    """
    for number in range(repeats):
        yield number + 1, [(number + turn) % count for turn in range(count)]


def measure(
    machine: Worker[Machine], workers: Sequence[Worker[TimedBundle]], repeats: int, tell: Callable[[str], object]
) -> tuple[Limits, list[Measured]]:
    """Measures bundles in turns: a warm-up, rounds of repetitions, rounds of opening anew.

    Args:
        machine: measures the machine's limits, once a round.
        workers: with a `TimedBundle` each.
        repeats: number of rounds that count.
        tell: receives a line about what is being waited for.
    """
    subjects = [Subject(worker) for worker in workers]
    for subject in subjects:
        tell(f"warming up {subject.worker.name}, the whole context once")
        subject.warm_up()
    moments = []
    for number, order in rounds(len(subjects), repeats):
        tell(f"round {number} of {repeats}: the machine's limits")
        moments.append(machine.call(Machine.measure))
        for turn in order:
            tell(f"round {number} of {repeats}: {subjects[turn].worker.name}")
            subjects[turn].repeat()
    for number, order in rounds(len(subjects), repeats):
        for turn in order:
            tell(f"opening {subjects[turn].worker.name}, {number} of {repeats}")
            subjects[turn].start()
    return best_of(moments), [subject.measured for subject in subjects]
