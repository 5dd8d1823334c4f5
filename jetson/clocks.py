"""Clocks of the GPU and of the memory (EMC), which together decide what the board can do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .sysfs import ROOT, matches, number

# JetPack 5 called it ga10b, 6 and later gpu.
GPU = "/sys/class/devfreq/17000000.*"
GPU_LOAD = ("/sys/devices/platform/gpu.0/load", "/sys/devices/gpu.0/load")  # per mille
# Only root may look in here.
EMC = "/sys/kernel/debug/bpmp/debug/clk/emc"
EMC_OLDER = "/sys/kernel/debug/clk/emc/clk_rate"
SLACK = 0.02  # EMC says 3199 MHz where its limit is 3199 or 3200


@dataclass(frozen=True)
class Clock:
    """Frequency of one clock, in MHz; None is what the system does not tell.

    Attributes:
        now: at the moment of reading.
        lowest, highest: range of the present power mode.
    """

    now: float | None
    lowest: float | None = None
    highest: float | None = None

    @property
    def is_locked(self) -> bool | None:
        """Whether it is held at its highest, as `jetson_clocks` does; None when that cannot be known."""
        held = self.lowest if self.lowest is not None else self.now
        if self.highest is None or held is None:
            return None
        return held >= self.highest * (1 - SLACK)


def gpu_clock(root: Path = ROOT) -> Clock | None:
    """Reads the GPU's clock; None where there is no such file."""
    for folder in matches(root, GPU):
        if (now := number(root, f"{folder}/cur_freq")) is not None:
            return Clock(now / 1e6, _mhz(root, f"{folder}/min_freq"), _mhz(root, f"{folder}/max_freq"))
    return None


def gpu_load(root: Path = ROOT) -> float | None:
    """Reads the part of the time that the GPU was busy, 0 to 1; None where the system does not tell."""
    found = (number(root, name) for name in GPU_LOAD)
    return next((load / 1000 for load in found if load is not None), None)


def emc_clock(root: Path = ROOT) -> Clock | None:
    """Reads the memory's clock; None where it may not be read, which on a board takes root.

    Its lowest frequency is not told: it counts as locked while it is at its highest.
    """
    now = number(root, f"{EMC}/rate")
    if now is None:
        now = number(root, EMC_OLDER)
    return None if now is None else Clock(now / 1e6, highest=_mhz(root, f"{EMC}/max_rate"))


def _mhz(root: Path, name: str) -> float | None:
    hertz = number(root, name)
    return None if hertz is None else hertz / 1e6
