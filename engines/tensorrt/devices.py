"""What engines are built for: the GPU at hand, or others (`named_gpus.py`)."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from mobilevlm.atomic_file import write_whole

from ..machine import available_bytes
from .cuda_device import is_integrated, memory_bytes
from .library import TENSORRT, Library

# Left to the system and to what the builder allocates besides kernels and their memory.
SPARE_BYTES = 768 << 20
# Of what is free, for a kernel's scratch memory; the rest is for weights, which are held twice for a while.
WORKSPACE_SHARE = 4


class Devices(Protocol):
    """See `ThisGpu` and `named_gpus.NamedGpus`.

    Attributes:
        library: what builds for them.
    """

    library: Library

    def configure(self, trt: ModuleType, config: Any) -> None:
        """Set what concerns them in a builder's configuration."""

    def built(self, config: Any) -> None:
        """Keep what a build has learnt."""


class ThisGpu:
    """The GPU at hand, on which kernels are timed and chosen.

    Args:
        timing_cache: a file of what was measured before: read, and written after each build.

    Raises:
        CudaError: there is no GPU.
    """

    library = TENSORRT

    def __init__(self, timing_cache: Path):
        self._timing_cache, self._limit = timing_cache, memory_limit()

    def configure(self, trt: ModuleType, config: Any) -> None:
        """Limits of memory, and the timing cache."""
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, self._limit // WORKSPACE_SHARE)
        if is_integrated():  # there it counts all that the build needs
            pool = trt.MemoryPoolType.TACTIC_DRAM
            config.set_memory_pool_limit(pool, self._limit)
            # Of TensorRT's generations from 10.16 on some refuse sizes but powers of two, with a line in the log.
            if config.get_memory_pool_limit(pool) != self._limit:
                config.set_memory_pool_limit(pool, 1 << self._limit.bit_length() - 1)
        with suppress(OSError):  # nothing when it is of another device or version
            cache = config.create_timing_cache(self._timing_cache.read_bytes())
            if cache is not None and config.set_timing_cache(cache, False):
                return
        cache = config.create_timing_cache(b"")
        if cache is not None:
            config.set_timing_cache(cache, False)

    def built(self, config: Any) -> None:
        """Write the timing cache."""
        cache = config.get_timing_cache()
        if cache is not None:
            write_whole(self._timing_cache, memoryview(cache.serialize()))


def memory_limit() -> int:
    """Bytes that a build may take: of the GPU, on a Jetson of the whole machine."""
    free, total = memory_bytes()
    if is_integrated():  # what the system could give up is not free, and can be had
        free = min(max(free, available_bytes() or 0), total)
    return max(free - SPARE_BYTES, free // 2)
