"""Description of the machine that figures were measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

from mobilevlm.engines.cores import usable_cores
from mobilevlm.engines.cpu import this_cpu

BOARD = Path("/proc/device-tree/model")  # on an Arm board
GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def describe_machine() -> dict[str, str | int | float | None]:
    """Describes processor or board, its int8 kernel, cores, memory in GiB, clock governor, system, and versions.

    None is what the system does not tell: a virtual machine has no governor, Windows has none of the files.
    """
    return {
        "cpu": _cpu_name(),
        "int8_kernel": this_cpu().int8_kernel,
        "cores": usable_cores(),
        "memory_gib": _memory_gib(),
        "governor": _text(GOVERNOR).strip() or None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "onnxruntime": version("onnxruntime"),
        "numpy": version("numpy"),
    }


def _cpu_name() -> str:
    lines = _text(Path("/proc/cpuinfo")).splitlines()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    board = _text(BOARD).strip("\0\n ")
    return next(named, "") or board or platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    except (AttributeError, ValueError, OSError):  # Windows
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
