"""A progress bar for builds that take minutes, which Ctrl-C cancels."""

from __future__ import annotations

import threading
import time
from types import ModuleType
from typing import Any

WIDTH = 24
INTERVAL_S = 0.2


def make_progress(trt: ModuleType, name: str, file: Any) -> Any:
    """Makes an `IProgressMonitor` for a builder; `cancel` stops the build, and `cancelled` tells that it did.

    Args:
        trt: TensorRT's module.
        name: of the graph.
        file: for the bar: redrawn on a terminal, elsewhere a line for each phase of the first level.
    """

    class Progress(trt.IProgressMonitor):  # type: ignore[name-defined]  # the module is known at run time only
        """TensorRT may call it from several threads, and takes an exception for a cancel."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.cancelled = False
            self._steps: dict[str, tuple[int, int]] = {}
            self._lock = threading.Lock()
            self._begin, self._drawn, self._width = time.monotonic(), 0.0, 0

        def cancel(self) -> None:
            self.cancelled = True

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with self._lock:
                self._steps[phase_name] = (0, num_steps)
            self._draw(phase_name if parent_phase is None else None)

        def step_complete(self, phase_name: str, step: int) -> bool:
            with self._lock:
                _, steps = self._steps.get(phase_name, (0, 1))
                self._steps[phase_name] = (step + 1, steps)
            self._draw(None)
            return not self.cancelled

        def phase_finish(self, phase_name: str) -> None:
            with self._lock:
                self._steps.pop(phase_name, None)
                ended = not self._steps
            if ended and file.isatty():
                file.write("\r" + " " * self._width + "\r")
                file.flush()

        def _draw(self, opened: str | None) -> None:
            seconds = time.monotonic() - self._begin
            if not file.isatty():
                if opened is not None:
                    file.write(f"{name}: {opened} ({seconds:.0f} s)\n")
                    file.flush()
                return
            with self._lock:
                if seconds - self._drawn < INTERVAL_S or not self._steps:
                    return
                self._drawn = seconds
                share, weight = 0.0, 1.0
                for done, steps in self._steps.values():  # each phase is a step of the one before
                    weight /= max(steps, 1)
                    share += done * weight
                filled = round(min(share, 1) * WIDTH)
                bar = "#" * filled + "-" * (WIDTH - filled)
                line = f"{name} [{bar}] {min(share, 1):4.0%} {seconds:4.0f} s  {list(self._steps)[-1]}"[:110]
                file.write("\r" + line.ljust(self._width))
                self._width = len(line)
                file.flush()

    return Progress()
