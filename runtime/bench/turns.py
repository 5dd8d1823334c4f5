"""Bundles timed in turns, each open during its turn alone: a small machine has no memory for several."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from .plan import Plan
from .rounds import rounds
from .timed_bundle import Repetition, TimedBundle


def in_turns(
    directories: Mapping[str, Path], plan: Plan, count: int, tell: Callable[[str], object], longest_wait_s: float = 0.0
) -> dict[str, list[Repetition]]:
    """Times every bundle once in every round, opened anew and warmed up by an answer that is not counted.

    Args:
        directories: bundles by name.
        plan: what one repetition runs.
        count: number of rounds.
        tell: receives a line about what is being waited for.
        longest_wait_s: longest wait for a quiet machine before each repetition.
    """
    names = list(directories)
    found: dict[str, list[Repetition]] = {name: [] for name in names}
    for number, order in rounds(len(names), count):
        for name in (names[turn] for turn in order):
            tell(f"round {number} of {count}: {name}")
            found[name].append(TimedBundle(directories[name], plan, longest_wait_s).run_once())
    return found
