"""Limits of this machine that engines are measured against: reading memory and multiplying matrices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from mobilevlm.engines.cores import usable_cores
from mobilevlm.engines.machine import available_bytes

from .onnx_file import matmul_model
from .quiet import wait_until_quiet
from .stopwatch import Stopwatch

READ_BYTES = 1 << 30  # far more than any cache but the largest servers' (1.1 GB)
PART_OF_MEMORY = 8  # on a small board an eighth of what is free instead
SIDE = 2048  # of the square matrices: larger than every cache of a core, small enough for a board (17 GFLOP)
TRIES = 5


@dataclass(frozen=True)
class Limits:
    """Limits of a machine, as far as one moment or several showed them.

    Attributes:
        read_gb_per_s: rate of reading memory, all threads together, from huge pages where the system has them.
            Weights that are mapped from files lie in small pages, from which less can be read.
        fp32_gflop_per_s: rate of ONNX Runtime's `MatMul` of float32 matrices of 2048 x 2048.
        int8_gop_per_s: rate of its `MatMulInteger`, uint8 by int8, of the same size.
        threads: number that read; the matrices are multiplied by as many as ONNX Runtime takes, as in an engine.
    """

    read_gb_per_s: float
    fp32_gflop_per_s: float
    int8_gop_per_s: float
    threads: int

    def operations_per_s(self, precision: str) -> float:
        """Peak rate for weights stored as `precision`: int8 and int4 are multiplied as int8, all else as float32."""
        return 1e9 * (self.int8_gop_per_s if precision.startswith("int") else self.fp32_gflop_per_s)


def best_of(moments: Sequence[Limits]) -> Limits:
    """Combines the limits of several moments: what disturbs can only slow down."""
    return Limits(
        max(one.read_gb_per_s for one in moments),
        max(one.fp32_gflop_per_s for one in moments),
        max(one.int8_gop_per_s for one in moments),
        max(one.threads for one in moments),
    )


class Machine:
    """Measures the limits with two models that are made once.

    Args:
        longest_wait_s: longest wait for a quiet machine before each measurement.
    """

    def __init__(self, longest_wait_s: float = 0.0):
        """Makes the models."""
        self._wait_s = longest_wait_s
        self._fp32 = _matmul("MatMul", np.float32, np.float32, np.float32)
        self._int8 = _matmul("MatMulInteger", np.uint8, np.int8, np.int32)

    def measure(self) -> Limits:
        """Takes the best of a few tries at this moment."""
        wait_until_quiet(self._wait_s)
        threads, available = usable_cores(), available_bytes()
        size = READ_BYTES if available is None else min(READ_BYTES, available // PART_OF_MEMORY)
        fp32, int8 = (2 * SIDE**3 / _shortest(run) / 1e9 for run in (self._fp32, self._int8))
        return Limits(_read_gb_per_s(threads, size), fp32, int8, threads)


def _matmul(
    op_type: str, x_type: type[np.generic], weight_type: type[np.generic], y_type: type[np.generic]
) -> Callable[[], object]:
    """Prepares a product of two square matrices: its weight is laid out, its result goes into an existing buffer."""
    import onnxruntime as ort

    draws, shape = np.random.default_rng(0), (SIDE, SIDE)
    x: np.ndarray = draws.integers(0, 127, shape).astype(x_type)
    weight: np.ndarray = draws.integers(0, 127, shape).astype(weight_type)
    y: np.ndarray = np.zeros(shape, y_type)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(matmul_model(op_type, SIDE, weight), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    binding.bind_output("y", "cpu", 0, y_type, y.shape, y.ctypes.data)

    def run(buffer: np.ndarray = y) -> None:  # the binding holds only the buffer's address
        session.run_with_iobinding(binding)

    return run


def _read_gb_per_s(threads: int, size: int) -> float:
    # The maximum of int32 is the numpy function that reads fastest. Ones, because pages of zeros that were never
    # written are all the same page, and in the cache.
    slices = np.array_split(np.ones(size // 4, np.int32), threads)
    with ThreadPoolExecutor(threads) as pool:
        return size / _shortest(lambda: list(pool.map(np.max, slices))) / 1e9


def _shortest(work: Callable[[], object]) -> float:
    """Seconds of the best of a few tries; one before them is not counted."""
    seconds = []
    for _ in range(1 + TRIES):
        watch = Stopwatch()
        work()
        seconds.append(watch.total_ms() / 1e3)
    return min(seconds[1:])
