"""Temperatures and over-current events: where the hardware lowers its clocks, and how often it did."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .sysfs import ROOT, matches, number, read

ZONES = "/sys/class/thermal/thermal_zone*"
# Cumulative counters of the events that throttle clocks (under-voltage, average and instantaneous over-current):
# NVIDIA's developer guide, "Platform Power and Performance". The hwmon number differs from boot to boot.
OVER_CURRENT = "/sys/class/hwmon/hwmon*/oc*_event_cnt"


@dataclass(frozen=True)
class Zone:
    """One thermal zone.

    Attributes:
        name: e.g. `tj-thermal`, the hottest of the chip.
        celsius: temperature at the moment of reading.
        throttles_at: lowest passive trip point, from where clocks are lowered, in degrees; None where it has none.
    """

    name: str
    celsius: float
    throttles_at: float | None


def zones(root: Path = ROOT) -> list[Zone]:
    """Reads the zones whose temperature can be read: that of a part that is switched off cannot."""
    found = []
    for folder in matches(root, ZONES):
        temperature = number(root, f"{folder}/temp")
        if temperature is None or temperature < -100_000:
            continue
        passive = [
            number(root, name.replace("_type", "_temp"))
            for name in matches(root, f"{folder}/trip_point_*_type")
            if read(root, name) == "passive"
        ]
        trips = [trip / 1e3 for trip in passive if trip is not None]
        found.append(Zone(read(root, f"{folder}/type") or folder, temperature / 1e3, min(trips, default=None)))
    return found


def over_current_events(root: Path = ROOT) -> dict[str, int]:
    """Reads the number of events since the board was started, by counter; none where the system does not tell."""
    counted = {name.rpartition("/")[2].split("_")[0]: number(root, name) for name in matches(root, OVER_CURRENT)}
    return {name: count for name, count in counted.items() if count is not None}
