"""The order of measuring: everything in turns, so that what changes on the machine meanwhile touches all alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .engine import Engine
from .limits import Limits, Machine, best_of
from .workers import Worker


@dataclass
class Measured:
    """What one bundle's worker returned.

    Attributes:
        starts: of `Engine.start`.
        memory: of `Engine.warm_up`.
        repetitions: of `Engine.run`.
    """

    starts: list[dict[str, float]] = field(default_factory=list)
    memory: dict[str, float | None] = field(default_factory=dict)
    repetitions: list[dict[str, Any]] = field(default_factory=list)

    @property
    def other_cores(self) -> list[float | None]:
        """What other processes used during each repetition."""
        return [one["other_cores"] for one in self.repetitions]


def measure(
    machine: Worker, engines: Sequence[Worker], repeats: int, tell: Callable[[str], object]
) -> tuple[Limits, list[Measured]]:
    """One round to warm up, rounds of repetitions, rounds of opening anew; memory is that of one opening.

    Args:
        machine: worker with a `Machine`.
        engines: workers with an `Engine` each.
        repeats: rounds that count.
        tell: gets a line about what is being waited for.
    """
    found = [Measured() for _ in engines]
    for turn, worker in enumerate(engines):
        tell(f"warming up {worker.name}, the whole context once")
        worker.call(Engine.load)
        found[turn].memory = worker.call(Engine.warm_up)
    moments = []
    for number in range(repeats):
        tell(f"round {number + 1} of {repeats}: the machine's limits")
        moments.append(machine.call(Machine.measure))
        for turn in _turns(len(engines), number):
            tell(f"round {number + 1} of {repeats}: {engines[turn].name}")
            found[turn].repetitions.append(engines[turn].call(Engine.run))
    for number in range(repeats):
        for turn in _turns(len(engines), number):
            tell(f"opening {engines[turn].name}, {number + 1} of {repeats}")
            found[turn].starts.append(engines[turn].call(Engine.start))
    return best_of(moments), found


def _turns(count: int, number: int) -> list[int]:
    """0 to count - 1, begun one later in every round."""
    return [(number + turn) % count for turn in range(count)]
