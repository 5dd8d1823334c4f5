"""TensorRT-RTX on the double: engines for several GPUs, and kernels that are compiled where they run and can be kept.

Its names are looked up in the real module, which the tests have. What it does at run time is what NVIDIA documents:
https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/inference-library/work-with-runtime-cache.html
"""

from __future__ import annotations

import importlib
import json
from types import ModuleType
from typing import Any

from mobilevlm.engines.tensorrt.library import RTX

from . import builder, context, engine
from .settings import Violation

VERSION = "11.4.0"  # of TensorRT, whose API it has
OLDEST = (8, 0)  # of the GPUs that an engine for none in particular runs on


def real() -> ModuleType:
    """NVIDIA's module, beside the double."""
    return importlib.import_module(RTX.modules[-1])


class _Checked:
    """An object that has no attribute which the real class lacks."""

    _real = ""

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_") and not hasattr(getattr(real(), type(self)._real), name):
            raise AttributeError(f"{type(self)._real} of TensorRT-RTX has no attribute {name!r}")
        return object.__getattribute__(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            getattr(self, name)
        object.__setattr__(self, name, value)


class IRuntimeCache(_Checked):
    """Kernels that were compiled, of one GPU and version."""

    _real = "IRuntimeCache"

    def __init__(self, trt: Any):
        self._here = [trt.__version__, list(trt._settings.capability)]
        self._kernels: set[str] = set()

    def serialize(self) -> bytes:
        return json.dumps([self._here, sorted(self._kernels)]).encode()

    def deserialize(self, blob: bytes) -> bool:
        try:
            there, kernels = json.loads(blob)
        except ValueError:
            return False
        if there != self._here:
            return False
        self._kernels |= set(kernels)
        return True


class IRuntimeConfig(_Checked):
    """How execution contexts are made."""

    _real = "IRuntimeConfig"
    dynamic_shapes_kernel_specialization_strategy = None
    cuda_graph_strategy = None

    def __init__(self, trt: Any):
        self._trt, self._strategy, self._cache = trt, None, None

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        self._strategy = strategy

    def create_runtime_cache(self) -> IRuntimeCache:
        return IRuntimeCache(self._trt)

    def set_runtime_cache(self, cache: IRuntimeCache) -> bool:
        self._cache = cache
        return True


class IExecutionContext(context.IExecutionContext):
    """Compiles kernels when it first runs a profile; one in a background thread cannot be captured."""

    def execute_async_v3(self, stream_handle: int) -> bool:
        config = self._config
        kernel = f"{self._engine._model.graph.name}, profile {self._profile}"
        if kernel not in config._cache._kernels:
            self._trt._settings.count("kernels compiled")
            config._cache._kernels.add(kernel)
        if config.dynamic_shapes_kernel_specialization_strategy.name != "EAGER":
            raise Violation("the kernels that stand in while others are compiled may be captured")
        return super().execute_async_v3(stream_handle)


class ICudaEngine(engine.ICudaEngine):
    """Makes contexts by a runtime configuration."""

    def create_runtime_config(self) -> IRuntimeConfig:
        return IRuntimeConfig(self._trt)

    def create_execution_context(self, runtime_config: IRuntimeConfig) -> Any:
        made = super().create_execution_context(runtime_config._strategy)
        made._config = runtime_config
        return made


class Runtime(engine.Runtime):
    """Loads engines for one of several GPUs."""

    def _fits(self, capabilities: list[list[int]]) -> bool:
        here = self._trt._settings.capability
        return list(here) in capabilities if capabilities else here >= OLDEST


class IBuilderConfig(builder.IBuilderConfig):
    """Names GPUs."""

    def __init__(self, trt: Any, logger: Any):
        super().__init__(trt, logger)
        self._capabilities: list[list[int]] = []

    def __getattribute__(self, name: str) -> Any:
        if name == "set_compute_capability":  # no TensorRT has it
            return object.__getattribute__(self, name)
        return super().__getattribute__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "num_compute_capabilities":
            self._capabilities = [[]] * value
        else:
            super().__setattr__(name, value)

    @property
    def _bound(self) -> dict[str, Any]:
        return {"capability": self._capabilities}

    def set_compute_capability(self, compute_capability: Any, index: int) -> bool:
        digits = compute_capability.name.removeprefix("SM")
        self._capabilities[index] = [int(digits[:-1]), int(digits[-1])]
        return True


CLASSES = (IExecutionContext, ICudaEngine, Runtime, IBuilderConfig)
ENUMERATIONS = ("ComputeCapability", "DynamicShapesKernelSpecializationStrategy")
