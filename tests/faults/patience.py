"""Time limit of a case where other processes take their share of the CPUs."""

from __future__ import annotations

import os


def patient(seconds: float) -> float:
    """Seconds of the clock in which a process gets so many of a CPU, as far as the machine's load tells.

    Args:
        seconds: on a machine that does nothing else.
    """
    if not hasattr(os, "getloadavg"):
        return seconds
    return seconds * max(1.0, 2 * os.getloadavg()[0] / (os.cpu_count() or 1))
