"""Wall-clock times in milliseconds: the one clock of all measurements."""

from __future__ import annotations

import time


class Stopwatch:
    """Runs from when it is made."""

    def __init__(self) -> None:
        self._begin = self._lap = time.perf_counter()

    def lap_ms(self) -> float:
        """Milliseconds since the last lap, or since the beginning."""
        before, self._lap = self._lap, time.perf_counter()
        return (self._lap - before) * 1e3

    def total_ms(self) -> float:
        """Milliseconds since the beginning."""
        return (time.perf_counter() - self._begin) * 1e3
