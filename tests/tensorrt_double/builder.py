"""The double's builder: configuration, profiles, and a plan that says what it was made for."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from .names import Named, number
from .onnx_rules import shape_input_problems
from .parser import INetworkDefinition
from .plan import pack
from .profiles import IOptimizationProfile, profile_problems

PHASES = {"Building engine": 3, "Building engine from subgraph": 4}
# From this version on a pool of DRAM is a power of two: TensorRT-RTX 1.4, of this generation, takes no other.
POWERS_OF_TWO = (10, 16)


class IHostMemory(Named, bytes):
    """A buffer that has no len()."""

    def __len__(self) -> int:
        raise TypeError("object of type 'IHostMemory' has no len()")

    @property
    def nbytes(self) -> int:
        return bytes.__len__(self)


class ITimingCache(Named):
    """Bytes that name the networks timed so far."""

    def __init__(self, trt: Any, blob: bytes):
        self._trt, self._blob = trt, blob or trt._timing_header()

    def serialize(self) -> IHostMemory:
        return self._trt._class("IHostMemory")(self._blob)


class IBuilderConfig(Named):
    """Options of a build."""

    max_aux_streams = -1
    builder_optimization_level = 3
    profiling_verbosity = None
    hardware_compatibility_level = None
    _bound: dict[str, Any] = {}  # what of a plan's header it decides

    def __init__(self, trt: Any, logger: Any):
        self._trt, self._logger, self._profiles, self._cache = trt, logger, [], None
        self._set, self._pools, self._monitor = {trt.BuilderFlag.TF32}, {}, None

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        if pool.name.endswith("_DRAM") and number(self._version) >= POWERS_OF_TWO:
            if pool_size.bit_count() != 1:
                text = "IBuilderConfig::setMemoryPoolLimit: Parameter check failed, condition: has_single_bit(poolSize)"
                self._trt._log(self._logger, "ERROR", text)
                return
        self._pools[pool.name] = pool_size

    def get_memory_pool_limit(self, pool: Any) -> int:
        return self._pools.get(pool.name, self._trt._settings.memory_bytes)

    @property
    def progress_monitor(self) -> Any:
        return self._monitor

    @progress_monitor.setter
    def progress_monitor(self, monitor: Any) -> None:
        if monitor is not None and not getattr(monitor, "_ready", False):
            raise TypeError("IProgressMonitor.__init__() must be called when overriding __init__")
        self._monitor = monitor

    def set_flag(self, flag: Any) -> None:
        self._set.add(flag)

    def clear_flag(self, flag: Any) -> None:
        self._set.discard(flag)

    def get_flag(self, flag: Any) -> bool:
        return flag in self._set

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        if name := profile._unordered():
            text = (
                f"Invalid optimization profiles for input tensors {name}, please ensure that the optimization profiles"
            )
            self._trt._log(self._logger, "ERROR", f"IOptimizationProfile::isValid: {text} satisfy MIN<=OPT<=MAX.")
            return -1
        self._profiles.append(profile)
        return len(self._profiles) - 1

    @property
    def num_optimization_profiles(self) -> int:
        return len(self._profiles)

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache:
        return self._trt._class("ITimingCache")(self._trt, bytes(serialized_timing_cache))

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        if not cache._blob.startswith(self._trt._timing_header()):
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        return self._cache


class Builder(Named):
    """Makes plans; what is wrong is only ever logged."""

    def __init__(self, trt: Any, logger: Any):
        self._trt, self._logger = trt, logger

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        return self._trt._class("INetworkDefinition")(self._trt, self._logger, flags)

    def create_builder_config(self) -> IBuilderConfig:
        return self._trt._class("IBuilderConfig")(self._trt, self._logger)

    def create_optimization_profile(self) -> IOptimizationProfile:
        return self._trt._class("IOptimizationProfile")(self._trt, self._logger)

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory | None:
        settings = self._trt._settings
        found = self._found(network, config)
        if settings.fail_build and settings.fail_build[0] in Path(network._path).name:
            found.append(settings.fail_build[1])
        if not found and not self._progress(config):
            found.append("IBuilder::buildSerializedNetwork: Error Code 7: BuildCanceled (Build canceled by user)")
        for text in found:
            self._trt._log(self._logger, "ERROR", text)
        if found:
            return None
        if config._cache is not None:
            mark = f"{network._path};".encode()
            settings.count("timing cache hits" if mark in config._cache._blob else "timing cache misses")
            config._cache._blob += mark
        settings.count("builds")
        flags = sorted(flag.name for flag in config._set)
        pools = config._pools
        return self._trt._class("IHostMemory")(
            pack(network._model, config._profiles, self._trt, {"flags": flags, "pools": pools, **config._bound})
        )

    def _found(self, network: INetworkDefinition, config: IBuilderConfig) -> list[str]:
        trt, model = self._trt, network._model
        if model is None:
            return ["Network must have at least one output"]
        found = []
        if number(trt.__version__) < (11, 0):
            flag = trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
            if not network._flags & 1 << int(flag):
                found.append("the double wants STRONGLY_TYPED networks: a weakly typed one chooses its own precision")
        found += profile_problems(network._skeleton, config._profiles)
        return found + shape_input_problems(model.graph)

    def _progress(self, config: IBuilderConfig) -> bool:
        monitor = config.progress_monitor
        if monitor is None:
            return True
        going, parent = True, None
        for phase, steps in PHASES.items():
            monitor.phase_start(phase, parent, steps)
            for step in range(steps if going else 0):
                time.sleep(self._trt._settings.step_seconds)
                try:
                    going = going and bool(monitor.step_complete(phase, step))
                except Exception as error:  # as pybind's trampoline does: printed, and taken for a cancel
                    print(error)
                    going = False
            parent = phase
        for phase in reversed(PHASES):
            monitor.phase_finish(phase)
        return going
