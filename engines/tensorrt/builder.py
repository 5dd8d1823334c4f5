"""TensorRT's builder: one engine from an ONNX graph.

The same code for TensorRT 10.3 to 11 and for TensorRT-RTX: networks are strongly typed, precision is in the graph, no
option chooses one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from mobilevlm.errors import UserError

from .devices import Devices
from .library import import_tensorrt
from .log import explained, make_logger
from .profiles import Profile

SETTINGS = {"strongly_typed": True, "tf32": False, "max_aux_streams": 0}


class BuildError(UserError):
    """An engine that could not be built; the message says why, and what helps.

    Args:
        what: could not be done.
        lines: of TensorRT's log.
        command: that makes the engines here.
    """

    def __init__(self, what: str, lines: Sequence[str], command: str):
        self._what, self._lines, self._command = what, list(lines), command
        super().__init__(explained(what, self._lines, command))

    def with_lines(self, printed: Sequence[str]) -> str:
        """The message, when lines that the driver printed are looked at, too."""
        return explained(self._what, [*self._lines, *printed], self._command)


class EngineBuilder:
    """TensorRT's builder.

    Args:
        devices: what engines are for.
        command: that the person is told to run when something fails.

    Attributes:
        trt: TensorRT's module.
        progress: an IProgressMonitor, or None.

    Raises:
        UserError: TensorRT is not installed.
    """

    def __init__(self, devices: Devices, command: str):
        self.trt = import_tensorrt(devices.library)
        self.progress: Any = None
        self._logger = make_logger(self.trt)
        self._devices, self._command = devices, command
        try:
            self._builder = self.trt.Builder(self._logger)
        except TypeError:  # what a null pointer becomes in Python
            raise self._failure(f"{devices.library.name}'s builder could not be made") from None

    def build_file(self, path: Path, profiles: Sequence[Profile]) -> memoryview:
        """The engine of an ONNX file, whose weights may lie beside it.

        Raises:
            BuildError: TensorRT refuses the graph, or memory is short.
            UserError: it does not know a GPU.
            KeyboardInterrupt: its progress monitor cancelled it.
        """
        name = path.name
        network = self._builder.create_network(network_flags(self.trt))
        parser = self.trt.OnnxParser(network, self._logger)  # alive until the end: the network's weights may be its
        # From the file, because a model with its weights is too large for one message.
        if not parser.parse_from_file(str(path)):
            errors = [parser.get_error(index) for index in range(parser.num_errors)]
            self._logger.lines += [f"ERROR: {error.node_name()}: {error.desc()}" for error in errors]
            raise self._failure(f"{name} could not be read")
        config = self._config()
        if problem := add_profiles(self._builder, network, config, profiles):
            self._logger.lines.append(f"ERROR: {problem}")
            raise self._failure(f"{name} could not be built")
        plan = self._builder.build_serialized_network(network, config)
        if plan is None:
            if self.progress is not None and self.progress.cancelled:
                raise KeyboardInterrupt
            raise self._failure(f"{name} could not be built")
        self._devices.built(config)
        del parser
        return memoryview(plan)

    def _config(self) -> Any:
        lines = self._logger.lines
        config = make_config(self.trt, self._builder, self._devices)
        self._logger.lines = lines  # without what was refused there, which no failure comes from
        if self.progress is not None:
            config.progress_monitor = self.progress
        return config

    def _failure(self, what: str) -> BuildError:
        return BuildError(what, self._logger.lines, self._command)


def make_config(trt: ModuleType, builder: Any, devices: Devices) -> Any:
    """A builder's configuration, as every engine of ours has it."""
    config = builder.create_builder_config()
    # On by default, it would round float32 products to 10 bits.
    config.clear_flag(trt.BuilderFlag.TF32)
    config.max_aux_streams = SETTINGS["max_aux_streams"]  # one stream: the least memory, and simply captured
    devices.configure(trt, config)
    return config


def add_profiles(builder: Any, network: Any, config: Any, profiles: Sequence[Profile]) -> str:
    """Add optimization profiles of the inputs whose sizes are not fixed; what is wrong with one, or nothing."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    dynamic = [tensor.name for tensor in inputs if -1 in tuple(tensor.shape)]
    for shapes in profiles:
        profile = builder.create_optimization_profile()
        for tensor in dynamic:
            try:
                profile.set_shape(tensor, *shapes[tensor])
            except (RuntimeError, ValueError, KeyError) as error:
                return f"optimization profile of {tensor}: {error}"
        if config.add_optimization_profile(profile) < 0:
            return "optimization profile refused"
    return ""


def network_flags(trt: ModuleType) -> int:
    """Strongly typed: what 10.x has to be asked for, and 11 knows nothing else."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)
