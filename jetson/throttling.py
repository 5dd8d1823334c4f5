"""Detects whether the board lowered its clocks during a measurement (clocks, temperatures, over-current events)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .clocks import SLACK, Clock
from .power import Sample
from .thermal import Zone

BUSY = 0.5  # load of a GPU that is at work
RARE = 0.05  # part of the busy samples in which a clock may be lower: a sample may fall between two stages


@dataclass(frozen=True)
class Throttling:
    """What was detected.

    Attributes:
        noticed: sentences; none when nothing was detected.
        unseen: what could not be observed.
        hottest_c: highest temperature of any zone, in degrees; None where none is told.
        lowest_gpu_mhz: lowest clock of a busy GPU; None where it is not told.
    """

    noticed: tuple[str, ...]
    unseen: tuple[str, ...]
    hottest_c: float | None
    lowest_gpu_mhz: float | None

    def as_json(self) -> dict[str, Any]:
        """Returns the fields for the line of JSON."""
        return {
            "noticed": list(self.noticed),
            "unseen": list(self.unseen),
            "hottest_c": self.hottest_c,
            "lowest_gpu_mhz": self.lowest_gpu_mhz,
        }


def look_for_throttling(
    samples: Sequence[Sample],
    clock: Clock | None,
    zones: Sequence[Zone],
    before: Mapping[str, int],
    after: Mapping[str, int],
) -> Throttling:
    """Judges the samples of a measurement.

    Args:
        samples: taken during the measurement.
        clock: of the GPU, before.
        zones: with the temperatures they throttle at.
        before: counters of over-current events, before.
        after: the same counters, afterwards.
    """
    noticed: list[str] = []
    unseen: list[str] = []
    busy = [one.gpu_mhz for one in samples if one.gpu_mhz is not None and (one.gpu_load or 0.0) >= BUSY]
    if clock is None or clock.highest is None or not busy:
        unseen.append("the GPU's clock at work")
    else:
        noticed += _low_clock(busy, clock, clock.highest)
    trips = {zone.name: zone.throttles_at for zone in zones if zone.throttles_at is not None}
    if not trips:
        unseen.append("the temperatures from which clocks are lowered")
    hottest: dict[str, float] = {}
    for one in samples:
        for name, degrees in one.temperatures_c.items():
            hottest[name] = max(hottest.get(name, degrees), degrees)
    for name, degrees in hottest.items():
        if name in trips and degrees >= trips[name]:
            noticed.append(f"{name} reached {degrees:.1f} C, clocks are lowered from {trips[name]:.1f} C on")
    if not before:
        unseen.append("over-current events")
    for name, count in after.items():
        if (more := count - before.get(name, count)) > 0:
            noticed.append(f"{more} over-current events ({name}); the hardware slows clocks down for each")
    return Throttling(tuple(noticed), tuple(unseen), max(hottest.values(), default=None), min(busy, default=None))


def _low_clock(busy: Sequence[float], clock: Clock, highest: float) -> list[str]:
    """A sentence where the clock of a busy GPU was lower than its highest in more than a few samples."""
    low = [mhz for mhz in busy if mhz < highest * (1 - SLACK)]
    if len(low) <= RARE * len(busy):
        return []
    why = "it was locked there: the board slowed down" if clock.is_locked else "clocks were not locked"
    return [
        f"the GPU ran below its {highest:.0f} MHz in {len(low) / len(busy):.0%} of the samples at work, "
        f"down to {min(low):.0f} MHz ({why})"
    ]
