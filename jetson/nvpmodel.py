"""Power modes of a board, read from it: numbers and names differ between modules and releases."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .sysfs import ROOT, read

CONFIG = "/etc/nvpmodel.conf"
STATUS = "/var/lib/nvpmodel/status"
QUERY_S = 10


@dataclass(frozen=True)
class PowerMode:
    """One power mode of a board.

    Attributes:
        id: number that `nvpmodel -m` takes.
        name: e.g. `MAXN`, `MODE_30W`, `25W`.
        gpu_mhz, emc_mhz: highest clocks of GPU and memory that it allows; None where it sets no limit.
    """

    id: int
    name: str
    gpu_mhz: float | None = None
    emc_mhz: float | None = None

    @property
    def rank(self) -> float:
        """Order of modes, larger is faster: MAXN_SUPER, MAXN, then by watts; a mode that names none comes last."""
        if "MAXN" in self.name.upper():
            return 2e6 if "SUPER" in self.name.upper() else 1e6
        watts = re.search(r"(\d+)\s*W", self.name.upper())
        return float(watts[1]) if watts else 0.0


def parse_modes(text: str) -> list[PowerMode]:
    """Parses the modes of an `nvpmodel.conf`, in its order."""
    found = []
    for block in re.split(r"(?m)^\s*(?=<)", text):
        head, _, body = block.partition("\n")
        number, name = re.search(r"\bID=(\d+)", head), re.search(r"\bNAME=(\S+)", head)
        if re.match(r"<\s*POWER_MODEL\b", head) and number and name:
            found.append(PowerMode(int(number[1]), name[1], _cap(body, "GPU"), _cap(body, "EMC")))
    return found


def _cap(body: str, device: str) -> float | None:
    """Parses a mode's `MAX_FREQ` in MHz; -1 and 0 mean that there is no limit."""
    found = re.search(rf"(?m)^\s*{device}\s+MAX_FREQ\s+(-?\d+)", body)
    return int(found[1]) / 1e6 if found and int(found[1]) > 0 else None


def parse_query(text: str) -> tuple[int | None, str | None]:
    """Parses number and name of the mode from the output of `nvpmodel -q`; None for what is not in it."""
    found = re.search(r"NV Power Mode:\s*(\S+)\s*\n\s*(\d+)\b", text)
    if found:
        return int(found[2]), found[1]
    named = re.search(r"NV Power Mode:\s*(\S+)", text)
    return None, named[1] if named else None


def parse_status(text: str) -> int | None:
    """Parses the number of the mode from nvpmodel's status file (`pmode:0002`); None for other text."""
    found = re.search(r"pmode:(\d+)", text)
    return int(found[1]) if found else None


def modes(root: Path = ROOT) -> list[PowerMode]:
    """Reads the modes of a board; none where it has no `nvpmodel.conf`."""
    return parse_modes(read(root, CONFIG) or "")


def current(root: Path, offered: Sequence[PowerMode]) -> PowerMode | None:
    """Reads the mode that a board is in; None where it does not tell.

    Asks `nvpmodel -q` on the board itself, and the status file where that is not available.

    Args:
        root: `/`, or where a tree was copied to.
        offered: modes of the board.
    """
    number, name = parse_query(_query()) if root == ROOT else (None, None)
    if number is None and name is None:
        number = parse_status(read(root, STATUS) or "")
    by_number = next((mode for mode in offered if mode.id == number), None)
    by_name = next((mode for mode in offered if mode.name == name), None)
    if by_number or by_name or number is None or name is None:
        return by_number or by_name
    return PowerMode(number, name)


def fastest(offered: Sequence[PowerMode]) -> PowerMode | None:
    """Returns the mode with the most power; None where there are none."""
    return max(offered, key=lambda mode: mode.rank, default=None)


def _query() -> str:
    try:
        done = subprocess.run(["nvpmodel", "-q"], capture_output=True, text=True, timeout=QUERY_S)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
