"""The double as modules: `tensorrt` and `cuda.bindings.runtime` of one pretended machine.

What TensorRT answers with None, False, -1 or an exception, the double does, too; what it leaves undefined is a
`Violation`. It computes with ONNX Runtime, in float32 where a graph has float16, on memory of the host.

| looked at                                                       | in            | broken on purpose in |
|-----------------------------------------------------------------|---------------|----------------------|
| names by version, as NVIDIA's own bindings have them            | names.py      | test_names.py, test_real_names.py |
| strong typing, operators, scales, shape tensors, profiles       | onnx_rules.py, profiles.py | test_builds.py |
| what NVIDIA's own builder returns, raises and logs, too         | builder.py, parser.py | test_same_calls.py |
| plans of another version or GPU                                 | engine.py     | test_runs.py         |
| shapes, addresses, alignment, overlaps, scratch memory | context.py    | test_runs.py         |
| what is not there before somebody waits; what is freed too soon | streams.py, cudart.py, memory.py | test_runs.py |
| captures and stale graphs                                       | context.py    | test_graphs.py       |
"""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mobilevlm.engines.tensorrt.cuda_device import bindings
from mobilevlm.engines.tensorrt.library import RTX

from . import builder, context, cudart, engine, parser, profiles, real_builder, rtx
from .names import enumeration, of_version, tables
from .settings import Settings

ROOT = Path(__file__).resolve().parents[2]
CLASSES = {
    kind.__name__: kind
    for kind in (
        builder.Builder,
        builder.IBuilderConfig,
        builder.IHostMemory,
        builder.ITimingCache,
        parser.INetworkDefinition,
        parser.ITensor,
        parser.OnnxParser,
        parser.ParserError,
        context.IExecutionContext,
        engine.ICudaEngine,
        engine.Runtime,
        profiles.IOptimizationProfile,
    )
}
SUBCLASSED = ("ILogger", "IProgressMonitor")
MADE_WITH_A_LOGGER = ("Builder", "Runtime")


class _Subclassed:
    """What programs derive from; the base has to be initialised."""

    def __init__(self) -> None:
        self._ready = True


class IProgressMonitor(_Subclassed):
    """Told how a build goes."""


class ILogger(_Subclassed):
    """Told what is wrong."""


def tensorrt(settings: Settings, driver: cudart.Driver) -> types.ModuleType:
    """The module `tensorrt` as its version has it."""
    self = types.ModuleType("tensorrt")
    version = self.__version__ = settings.version
    self._settings, self._driver = settings, driver
    kinds = CLASSES | ({kind.__name__: kind for kind in rtx.CLASSES} if settings.rtx else {})
    made = {name: of_version(kind, version) for name, kind in kinds.items()}
    self._class = made.__getitem__
    self._log = lambda logger, severity, text: logger.log(getattr(self.ILogger.Severity, severity), text)
    self._timing_header = lambda: f"timing of {version} on {settings.capability}:".encode()
    self.ILogger = type("ILogger", (ILogger,), {})
    for name in tables()["enums"]:
        of, _, last = name.rpartition(".")
        setattr(getattr(self, of) if of else self, last, enumeration(last, version, tables()["enums"][name]))
    self.IProgressMonitor = IProgressMonitor
    for name in MADE_WITH_A_LOGGER:
        setattr(self, name, _with_logger(self, made[name]))
    self.OnnxParser = lambda network, logger: made["OnnxParser"](network, _checked(self, logger))
    self.nptype = _nptype
    for name in rtx.ENUMERATIONS if settings.rtx else ():
        setattr(self, name, getattr(rtx.real(), name))
    return self


def _checked(trt: types.ModuleType, logger: Any) -> Any:
    if not isinstance(logger, trt.ILogger) or not getattr(logger, "_ready", False):
        raise TypeError(
            "incompatible constructor arguments: ILogger.__init__() must be called when overriding __init__"
        )
    return logger


def _with_logger(trt: types.ModuleType, kind: type) -> Any:
    return lambda logger: kind(trt, _checked(trt, logger))


def _nptype(dtype: Any) -> type:
    found = {name: kind for name, kind in engine.DTYPES.values()}.get(dtype.name)
    if found is None:
        raise TypeError(f"Could not resolve TensorRT datatype to an equivalent numpy datatype: {dtype}")
    return found


def modules(settings: Settings) -> dict[str, types.ModuleType]:
    """All modules by name."""
    runtime = cudart.module(settings)
    cuda, bindings = types.ModuleType("cuda"), types.ModuleType("cuda.bindings")
    cuda.bindings, bindings.runtime = bindings, runtime
    names = {"cuda": cuda, "cuda.bindings": bindings, "cuda.bindings.runtime": runtime}
    make = real_builder.tensorrt if settings.real else tensorrt
    module = make(settings, runtime._driver)
    return names | ({RTX.modules[0]: module} if settings.rtx else {"tensorrt": module})


@contextmanager
def pretended(settings: Settings) -> Iterator[types.SimpleNamespace]:
    """Let this process, and those that it starts, have the modules: `trt`, `driver` and `settings`."""
    made = modules(settings)
    bindings.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        for name, module in made.items():
            patch.setitem(sys.modules, name, module)
        for key, value in settings.as_environment().items():
            patch.setenv(key, value)
        paths = [str(Path(__file__).with_name("modules")), str(ROOT), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        try:
            driver = made["cuda.bindings.runtime"]._driver
            trt = made[RTX.modules[0] if settings.rtx else "tensorrt"]
            yield types.SimpleNamespace(trt=trt, driver=driver, settings=settings)
        finally:
            bindings.cache_clear()
