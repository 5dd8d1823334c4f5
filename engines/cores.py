"""CPU cores that this process may use: fewer than the machine has under taskset, or in a container with a quota."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")  # a container's own is mounted there
QUOTA, PERIOD = (
    "cpu.cfs_quota_us",
    "cpu.cfs_period_us",
)  # of version 1; https://docs.kernel.org/scheduler/sched-bwc.html


def allowed_cores() -> int:
    """Number of cores that this process may run on, whatever a quota says."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usable_cores() -> int:
    """Number of cores that this process may keep busy."""
    quota = quota_cores()
    return allowed_cores() if quota is None else min(allowed_cores(), quota)


def quota_cores(directory: Path = CGROUPS) -> int | None:
    """Reads how many cores' time a container may take, rounded up; None for as much as there is.

    More threads than that are stopped in turns by the system: those that wait for each other take many times as long.

    Args:
        directory: where control groups are mounted, of version 2 or 1.
    """
    try:
        quota, period = (directory / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota, period = ((directory / "cpu" / name).read_text().strip() for name in (QUOTA, PERIOD))
        except OSError:
            return None
    if not (quota.isdecimal() and period.isdecimal() and int(period)):  # `max` and -1: none
        return None
    return max(1, math.ceil(int(quota) / int(period)))
