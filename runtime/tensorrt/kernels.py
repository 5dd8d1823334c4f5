"""Kernels that TensorRT-RTX compiles on the GPU at hand, kept between processes: compiling takes seconds.

https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/inference-library/work-with-runtime-cache.html
"""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

from mobilevlm.atomic_file import write_whole
from mobilevlm.engines.bundle import Bundle
from mobilevlm.environment import user_cache


def kernels_file(bundle: Bundle, part: str, version: str, capability: str) -> Path:
    """Returns the file that an engine's kernels are kept in.

    Args:
        bundle: that the engine is of.
        part: name of the engine's graph.
        version: of TensorRT-RTX.
        capability: compute capability of the GPU, such as `8.9`.
    """
    return user_cache("kernels") / bundle.manifest.seal[:32] / f"{part}-{version}-{capability}.bin"


class Kernels:
    """Compiled kernels of one engine.

    Args:
        trt: TensorRT-RTX's module.
        engine: its `ICudaEngine`.
        path: file that they are kept in.

    Attributes:
        config: creates execution contexts, whose memory is the caller's.
    """

    def __init__(self, trt: ModuleType, engine: Any, path: Path):
        self._path = path
        self.config = engine.create_runtime_config()
        self.config.set_execution_context_allocation_strategy(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        # At once, not in the background: a captured graph would keep the slower ones that stand in for them.
        strategies = trt.DynamicShapesKernelSpecializationStrategy
        self.config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
        self._cache = self.config.create_runtime_cache()
        self._kept = b""
        with contextlib.suppress(OSError):
            content = path.read_bytes()
            if self._cache.deserialize(content):  # False for those of another GPU or driver: they are replaced
                self._kept = content
        self.config.set_runtime_cache(self._cache)

    def keep(self) -> None:
        """Writes them where they are read from the next time; warns where nothing can be written."""
        compiled = bytes(self._cache.serialize())
        if compiled == self._kept:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._path, compiled)
            self._kept = compiled
        except OSError as error:
            warnings.warn(f"kernels are compiled again at the next start: {error}", stacklevel=2)
