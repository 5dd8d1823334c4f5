"""Samples the board in a thread while something runs, and integrates power to energy.

Energy is given only with the rails that it is the sum of, and not at all where a rail was missing in between.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from .clocks import gpu_clock, gpu_load
from .memory import parse_meminfo
from .rails import read_rails
from .sysfs import ROOT, read
from .tegrastats import parse_line
from .thermal import zones

INTERVAL_S = 0.05  # the monitors average over some milliseconds; closer samples would cost time that is measured
TEGRASTATS_MS = 100
STOP_S = 5
LONGEST_GAP_S = 1.0  # power nobody looked at for longer is not known


@dataclass(frozen=True)
class Sample:
    """State of the board at one moment; what it did not tell is None or missing.

    Attributes:
        at_s: time of `time.perf_counter`.
        rails_mw: power rail to milliwatts.
        gpu_mhz, gpu_load: clock of the GPU, and its load from 0 to 1.
        temperatures_c: zone to degrees.
        available_mib: memory available to CPU and GPU, which share it.
    """

    at_s: float
    rails_mw: dict[str, float] = field(default_factory=dict)
    gpu_mhz: float | None = None
    gpu_load: float | None = None
    temperatures_c: dict[str, float] = field(default_factory=dict)
    available_mib: float | None = None


class Source(Protocol):
    """Source of samples."""

    def __iter__(self) -> Iterator[Sample]:
        """Yields samples until closed."""

    def close(self) -> None:
        """Ends a running iteration; may be called from another thread."""


class SysfsSource:
    """Samples from the system's own files: finer in time than tegrastats, and without its process.

    Args:
        root: `/`, or where a board's tree was copied to.
        interval_s: seconds between two samples.
    """

    def __init__(self, root: Path = ROOT, interval_s: float = INTERVAL_S):
        self._root, self._interval_s, self._ended = root, interval_s, threading.Event()

    def __iter__(self) -> Iterator[Sample]:
        while not self._ended.is_set():
            yield sample(self._root)
            self._ended.wait(self._interval_s)

    def close(self) -> None:
        """Ends the iteration, at once."""
        self._ended.set()


class TegrastatsSource:
    """Samples from tegrastats, for boards whose monitors the system does not show (in a container, for example)."""

    def __init__(self, command: Sequence[str] = ("tegrastats", "--interval", str(TEGRASTATS_MS))):
        """Starts tegrastats.

        Raises:
            OSError: there is no such program.
        """
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def __iter__(self) -> Iterator[Sample]:
        if self._process.stdout is None:  # it is a pipe, as asked for
            return
        with self._process.stdout as lines:
            for reading in filter(None, map(parse_line, lines)):
                yield Sample(
                    time.perf_counter(),
                    {name: float(power) for name, power in reading.rails_mw.items()},
                    reading.gpu_mhz,
                    reading.gpu_load,
                    reading.temperatures_c,
                    reading.ram_total_mib - reading.ram_used_mib,
                )

    def close(self) -> None:
        """Ends the program."""
        self._process.terminate()
        self._process.wait()


def sample(root: Path = ROOT) -> Sample:
    """Takes one sample."""
    clock = gpu_clock(root)
    available = parse_meminfo(read(root, "/proc/meminfo") or "").get("MemAvailable")
    return Sample(
        time.perf_counter(),
        read_rails(root),
        clock.now if clock else None,
        gpu_load(root),
        {zone.name: zone.celsius for zone in zones(root)},
        available / 2**20 if available is not None else None,
    )


def open_source(root: Path = ROOT) -> Source:
    """Opens the system's files, or tegrastats where they show no power rail and there is such a program."""
    if not read_rails(root) and root == ROOT:
        try:
            return TegrastatsSource()
        except OSError:
            pass
    return SysfsSource(root)


class PowerSampler:
    """Samples in a thread while a `with` block runs.

    Args:
        source: closed at the end of the block.
    """

    def __init__(self, source: Source):
        self._source = source
        self._samples: list[Sample] = []
        self._thread = threading.Thread(target=self._run, name="power", daemon=True)

    def __enter__(self) -> PowerSampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._source.close()
        self._thread.join(STOP_S)

    def _run(self) -> None:
        for one in self._source:
            self._samples.append(one)

    def samples(self, begin_s: float = float("-inf"), end_s: float = float("inf")) -> list[Sample]:
        """Returns the samples of a period.

        Args:
            begin_s: begin of the period, of `time.perf_counter`.
            end_s: end of the period, of the same clock.
        """
        return [one for one in list(self._samples) if begin_s <= one.at_s <= end_s]


def joules(samples: Sequence[Sample], rails: Sequence[str], begin_s: float, end_s: float) -> float | None:
    """Integrates the power of a sum of rails over a period, by trapezia.

    Between an end of the period and the nearest sample inside, the power of that sample counts.

    Args:
        samples: in the order of time.
        rails: names of the rails that are summed up.
        begin_s: begin of the period, of `time.perf_counter`.
        end_s: end of the period, of the same clock.

    Returns:
        Energy in joules; None with no sample in the period, when one of them lacks a rail, or when none was taken for
        `LONGEST_GAP_S`.
    """
    inside = [one for one in samples if begin_s <= one.at_s <= end_s]
    if not inside or any(rail not in one.rails_mw for one in inside for rail in rails):
        return None
    watts = [sum(one.rails_mw[rail] for rail in rails) / 1e3 for one in inside]
    times = [begin_s, *(one.at_s for one in inside), end_s]
    watts = [watts[0], *watts, watts[-1]]
    gaps = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
    if max(gaps) > LONGEST_GAP_S:
        return None
    return sum((before + after) / 2 * gap for before, after, gap in zip(watts, watts[1:], gaps, strict=False))
