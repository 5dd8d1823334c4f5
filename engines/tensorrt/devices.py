"""What engines are built for: the GPU at hand, whose kernels are timed, or GPUs by name on a machine that has none."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from mobilevlm.errors import UserError

from ..cuda_device import is_integrated, memory_bytes
from ..machine import available_bytes
from ..whole_file import write_whole
from .library import RTX, TENSORRT, Library

# Left to the system and to what the builder allocates besides kernels and their memory.
SPARE_BYTES = 768 << 20
# Of what is free, for a kernel's scratch memory; the rest is for weights, which are held twice for a while.
WORKSPACE_SHARE = 4


class Devices(Protocol):
    """See `ThisGpu` and `NamedGpus`.

    Attributes:
        library: what builds for them.
    """

    library: Library

    def configure(self, trt: ModuleType, config: Any) -> None:
        """Set what concerns them in a builder's configuration."""

    def built(self, config: Any) -> None:
        """Keep what a build has learnt."""


class ThisGpu:
    """The GPU at hand.

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
            config.set_memory_pool_limit(trt.MemoryPoolType.TACTIC_DRAM, self._limit)
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


class NamedGpus:
    """GPUs of compute capabilities.

    Args:
        capabilities: such as SM75; none for every GPU from Ampere (SM80) on, also those to come.
    """

    library = RTX

    def __init__(self, capabilities: Sequence[str]):
        self._capabilities = capabilities

    def configure(self, trt: ModuleType, config: Any) -> None:
        """Their capabilities.

        Raises:
            UserError: TensorRT-RTX does not know one.
        """
        known = [name for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
        if unknown := [name for name in self._capabilities if name not in known]:
            raise UserError(
                f"TensorRT-RTX {trt.__version__} does not know {unknown[0]}; it knows {', '.join(sorted(known))}"
            )
        if self._capabilities:
            config.num_compute_capabilities = len(self._capabilities)
        for index, name in enumerate(self._capabilities):
            config.set_compute_capability(getattr(trt.ComputeCapability, name), index)

    def built(self, config: Any) -> None:
        """Nothing was measured."""


def memory_limit() -> int:
    """Bytes that a build may take: of the GPU, on a Jetson of the whole machine."""
    free, total = memory_bytes()
    if is_integrated():  # what the system could give up is not free, and can be had
        free = min(max(free, available_bytes() or 0), total)
    return max(free - SPARE_BYTES, free // 2)
