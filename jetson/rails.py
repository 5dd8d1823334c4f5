"""Power rails: reads the INA3221 monitors, and groups rails whose sum is the power of the module or its processors."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .sysfs import ROOT, matches, number, read

# An AGX Orin has a second monitor at 1-0041.
MONITORS = "/sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*"
NOT_RAILS = ("NC", "sum of shunt voltages")

# By the rails that a board has: name of a set to the rails whose sum it is. `module` is all that the module takes, as
# far as it is measured; `compute` its processors. An AGX Orin has no rail of its input: its 5 V rail feeds memory, I/O.
SETS = (
    {"module": ("VDD_IN",), "compute": ("VDD_CPU_GPU_CV", "VDD_SOC")},
    {"module": ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"), "compute": ("VDD_GPU_SOC", "VDD_CPU_CV")},
)


def read_rails(root: Path = ROOT) -> dict[str, float]:
    """Reads the power of each rail in mW, the product of its voltage (mV) and current (mA); none without a monitor.

    A rail whose voltage or current cannot be read is left out.
    """
    found = {}
    for folder in matches(root, MONITORS):
        for label in matches(root, f"{folder}/in*_label"):
            name, channel = read(root, label), label.rpartition("/in")[2].removesuffix("_label")
            millivolts = number(root, f"{folder}/in{channel}_input")
            milliamperes = number(root, f"{folder}/curr{channel}_input")
            if name and name not in NOT_RAILS and millivolts is not None and milliamperes is not None:
                found[name] = millivolts * milliamperes / 1e3
    return found


def rail_sets(rails: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Groups rails into sets: name to rails; for a board that is not in the table every rail is a set."""
    there = set(rails)
    for sets in SETS:
        complete = {name: members for name, members in sets.items() if there.issuperset(members)}
        if "module" in complete:
            return complete
    return {name: (name,) for name in sorted(there)}
