"""The double's builder: parser, network, configuration, profiles, and a plan that says what it was made for."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import onnx

from .names import Named, number
from .onnx_rules import problems, scatter_problems
from .plan import pack
from .profiles import Profile, dims, profile_problems

PHASES = {"Building Engine": 3, "Tactic selection": 4}


class ITensor(Named):
    """An input of a network."""

    def __init__(self, value: onnx.ValueInfoProto):
        self._value = value

    @property
    def name(self) -> str:
        return self._value.name

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(-1 if isinstance(dim, str) else dim for dim in dims(self._value))


class INetworkDefinition(Named):
    """What the parser fills."""

    def __init__(self, trt: Any, flags: int):
        self._trt, self._flags = trt, flags
        self._model: onnx.ModelProto | None = None
        self._skeleton: onnx.ModelProto | None = None  # without weights, which shapes do not depend on
        self._path = ""

    @property
    def num_inputs(self) -> int:
        return len(self._model.graph.input)

    def get_input(self, index: int) -> ITensor:
        return self._trt._class("ITensor")(self._model.graph.input[index])


class ParserError(Named):
    """One of a parser's errors."""

    def __init__(self, text: str):
        self._text = text

    def desc(self) -> str:
        return self._text

    def node_name(self) -> str:
        return self._text.split()[1] if self._text.startswith("node ") else ""


class OnnxParser(Named):
    """Reads ONNX files into a network."""

    def __init__(self, network: INetworkDefinition, logger: Any):
        self._network, self._logger, self._errors = network, logger, []

    def parse_from_file(self, model: str) -> bool:
        path = Path(model)
        self._network._path = str(path)
        try:
            skeleton = onnx.load(path, load_external_data=False)
        except (OSError, ValueError, onnx.onnx_cpp2py_export.checker.ValidationError) as error:
            return self._refuse([f"{path} cannot be read: {error}"])
        return self._take(skeleton, lambda: onnx.load(path))

    def parse(self, model: bytes, path: str | None = None) -> bool:
        skeleton = onnx.load_model_from_string(model)
        return self._take(skeleton, lambda: skeleton)

    def _take(self, skeleton: onnx.ModelProto, whole: Any) -> bool:
        found = problems(skeleton, self._version)
        if found:
            return self._refuse(found)
        self._network._skeleton, self._network._model = skeleton, whole()
        return True

    def _refuse(self, found: list[str]) -> bool:
        self._errors = [self._network._trt._class("ParserError")(text) for text in found]
        for text in found:
            self._network._trt._log(self._logger, "ERROR", f"[ModelImporter] {text}")
        return False

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]


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
    progress_monitor = None
    builder_optimization_level = 3
    profiling_verbosity = None
    hardware_compatibility_level = None

    def __init__(self, trt: Any):
        self._trt, self._profiles, self._pools, self._cache = trt, [], {}, None
        self._set = {trt.BuilderFlag.TF32}

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self._pools[pool.name] = pool_size

    def set_flag(self, flag: Any) -> None:
        self._set.add(flag)

    def clear_flag(self, flag: Any) -> None:
        self._set.discard(flag)

    def get_flag(self, flag: Any) -> bool:
        return flag in self._set

    def add_optimization_profile(self, profile: Profile) -> int:
        if not profile:
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
        return self._trt._class("INetworkDefinition")(self._trt, flags)

    def create_builder_config(self) -> IBuilderConfig:
        return self._trt._class("IBuilderConfig")(self._trt)

    def create_optimization_profile(self) -> Profile:
        return self._trt._class("IOptimizationProfile")()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory | None:
        settings = self._trt._settings
        found = self._found(network, config)
        if settings.fail_build and settings.fail_build[0] in Path(network._path).name:
            found.append(settings.fail_build[1])
        if not found and not self._progress(config):
            found.append("the build was cancelled by the progress monitor")
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
            pack(network._model, config._profiles, self._trt, {"flags": flags, "pools": pools})
        )

    def _found(self, network: INetworkDefinition, config: IBuilderConfig) -> list[str]:
        trt, model = self._trt, network._model
        if model is None:
            return ["the network is empty"]
        found = []
        if number(trt.__version__) < (11, 0):
            flag = trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
            if not network._flags & 1 << int(flag):
                found.append("the double wants STRONGLY_TYPED networks: a weakly typed one chooses its own precision")
        found += profile_problems(network._skeleton, config._profiles)
        refit = {name for name in ("REFIT", "REFIT_IDENTICAL", "REFIT_INDIVIDUAL", "STRIP_PLAN")}
        if len(config._profiles) > 1 and refit & {flag.name for flag in config._set}:
            found.append("refittable engines have at most one optimization profile")
        found += scatter_problems(model)
        return found

    def _progress(self, config: IBuilderConfig) -> bool:
        monitor = config.progress_monitor
        if monitor is None:
            return True
        if not getattr(monitor, "_ready", False):
            raise TypeError("IProgressMonitor.__init__() must be called when overriding __init__")
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
