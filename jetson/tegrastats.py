"""Parses a line of tegrastats, in every form that JetPack 5 to 7.2 print.

Between releases the clock of the GPU became a list, temperatures pairs and powers triples; without root the clocks of
the memory and of an idle GPU are left out. What is not in a line is None or missing here, never zero.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

MIB = {"kB": 1 / 1024, "MB": 1.0, "GB": 1024.0}
OFF_C = -100.0  # sensors of parts that are switched off say -256

_RAM = re.compile(r"\bRAM\s+(\d+)/(\d+)MB(?:\s+\(lfb\s+(\d+)x(\d+)([kMG]B)\))?")
_SWAP = re.compile(r"\bSWAP\s+(\d+)/(\d+)MB")
_CPU = re.compile(r"\bCPU\s+\[([^\]]*)\]")
_CORE = re.compile(r"(\d+)%@(\d+)")
_EMC = re.compile(r"\bEMC_FREQ\s+(\d+)%(?:@(\d+))?")
_GPU = re.compile(r"\bGR3D_FREQ\s+(?:(\d+)%)?(?:@\[?(\d[\d,]*)\]?)?")
_TEMPERATURE = re.compile(r"(?<![\w%])(\w+)@(-?\d+(?:\.\d+)?)C(?![\w])")
_POWER = re.compile(r"\b([A-Z][A-Z0-9_]*)\s+(\d+)mW(?:/(\d+)mW)?")


@dataclass(frozen=True)
class Reading:
    """Values of one line.

    Attributes:
        ram_used_mib, ram_total_mib: memory in use and in all, shared by CPU and GPU.
        largest_free_mib, largest_free_count: size of the largest free blocks and how many there are (lfb).
        swap_used_mib, swap_total_mib: swap in use and in all; None where there is none.
        cores: load (0 to 1) and clock in MHz of each core that is on.
        emc_load, emc_mhz: load (0 to 1) and clock of the memory; None without root.
        gpu_load, gpu_mhz: load and clock of the GPU, the lowest clock where there are several.
        temperatures_c: sensor, in lower case, to degrees.
        rails_mw: power rail to milliwatts at this moment.
        averages_mw: power rail to milliwatts, averaged since tegrastats was started.
    """

    ram_used_mib: int
    ram_total_mib: int
    largest_free_mib: float | None = None
    largest_free_count: int | None = None
    swap_used_mib: int | None = None
    swap_total_mib: int | None = None
    cores: tuple[tuple[float, int], ...] = ()
    emc_load: float | None = None
    emc_mhz: int | None = None
    gpu_load: float | None = None
    gpu_mhz: int | None = None
    temperatures_c: dict[str, float] = field(default_factory=dict)
    rails_mw: dict[str, int] = field(default_factory=dict)
    averages_mw: dict[str, int] = field(default_factory=dict)


def parse_line(line: str) -> Reading | None:
    """Parses one line; None for one that is not of tegrastats.

    Of a rail's two or three powers the first is that of the moment and the second the average (jetson_stats); the
    meaning of the third in JetPack 7.2 is not known, and it is not used.
    """
    ram = _RAM.search(line)
    if ram is None:
        return None
    swap, emc, gpu = _SWAP.search(line), _EMC.search(line), _GPU.search(line)
    cores = _CPU.search(line)
    powers = _POWER.findall(line)
    return Reading(
        ram_used_mib=int(ram[1]),
        ram_total_mib=int(ram[2]),
        largest_free_mib=int(ram[4]) * MIB[ram[5]] if ram[3] else None,
        largest_free_count=int(ram[3]) if ram[3] else None,
        swap_used_mib=int(swap[1]) if swap else None,
        swap_total_mib=int(swap[2]) if swap else None,
        cores=tuple((int(load) / 100, int(mhz)) for load, mhz in _CORE.findall(cores[1] if cores else "")),
        emc_load=int(emc[1]) / 100 if emc else None,
        emc_mhz=int(emc[2]) if emc and emc[2] else None,
        gpu_load=int(gpu[1]) / 100 if gpu and gpu[1] else None,
        gpu_mhz=min(int(mhz) for mhz in gpu[2].split(",") if mhz) if gpu and gpu[2] else None,
        temperatures_c={
            name.lower(): float(degrees) for name, degrees in _TEMPERATURE.findall(line) if float(degrees) > OFF_C
        },
        rails_mw={name: int(now) for name, now, _ in powers},
        averages_mw={name: int(average) for name, _, average in powers if average},
    )
