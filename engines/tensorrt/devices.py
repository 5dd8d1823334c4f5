"""GPUs that engines are built for: the one of this machine, or others by name (`named_gpus.py`)."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from mobilevlm.atomic_file import write_whole

from ..machine import available_bytes
from .cuda_device import is_integrated, memory_bytes
from .library import TENSORRT, Library

# Left to the system and to the builder's own allocations.
SPARE_BYTES = 768 << 20
# Part of the limit for a kernel's scratch memory, 1 in so many; the rest is for weights, which are held twice at times.
WORKSPACE_SHARE = 4


class Devices(Protocol):
    """GPUs that engines are built for, see `ThisGpu` and `named_gpus.NamedGpus`.

    Attributes:
        library: builds engines for them.
    """

    library: Library

    def configure(self, trt: ModuleType, config: Any) -> None:
        """Sets a builder's configuration for these GPUs.

        Args:
            trt: the library's module.
            config: its `IBuilderConfig`.
        """

    def built(self, config: Any) -> None:
        """Keeps the measurements of a build."""


class ThisGpu:
    """This machine's GPU, on which kernels are timed and chosen.

    Args:
        timing_cache: file of earlier measurements: read, and written after each build.

    Raises:
        CudaError: there is no GPU.
    """

    library = TENSORRT

    def __init__(self, timing_cache: Path):
        self._timing_cache, self._limit = timing_cache, memory_limit()

    def configure(self, trt: ModuleType, config: Any) -> None:
        """Sets memory limits and the timing cache.

        Args:
            trt: TensorRT's module.
            config: its `IBuilderConfig`.
        """
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, self._limit // WORKSPACE_SHARE)
        if is_integrated():  # there it counts all that the build needs
            pool = trt.MemoryPoolType.TACTIC_DRAM
            config.set_memory_pool_limit(pool, self._limit)
            # Some versions from 10.16 on take powers of two only, and refuse others with a line in the log.
            if config.get_memory_pool_limit(pool) != self._limit:
                config.set_memory_pool_limit(pool, 1 << self._limit.bit_length() - 1)
        with suppress(OSError):  # refused when it is of another device or version
            cache = config.create_timing_cache(self._timing_cache.read_bytes())
            if cache is not None and config.set_timing_cache(cache, False):
                return
        cache = config.create_timing_cache(b"")
        if cache is not None:
            config.set_timing_cache(cache, False)

    def built(self, config: Any) -> None:
        """Writes the timing cache."""
        cache = config.get_timing_cache()
        if cache is not None:
            write_whole(self._timing_cache, memoryview(cache.serialize()))


def memory_limit() -> int:
    """Returns the bytes that a build may take: of the GPU's memory, on a Jetson of the machine's."""
    free, total = memory_bytes()
    if is_integrated():  # what the system could give up is not free, and can be had
        free = min(max(free, available_bytes() or 0), total)
    return max(free - SPARE_BYTES, free // 2)
