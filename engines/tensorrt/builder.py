"""Builds an engine from an ONNX graph, with TensorRT 10.3 to 11 or TensorRT-RTX.

Networks are strongly typed: precision is in the graph, no option of the builder chooses it.
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
        what: the step that failed.
        lines: of TensorRT's log.
        command: builds the engines on this machine.
    """

    def __init__(self, what: str, lines: Sequence[str], command: str):
        self._what, self._lines, self._command = what, list(lines), command
        super().__init__(explained(what, self._lines, command))

    def with_lines(self, printed: Sequence[str]) -> str:
        """Returns the message that follows from the log and from lines that the driver printed."""
        return explained(self._what, [*self._lines, *printed], self._command)


class EngineBuilder:
    """TensorRT's builder.

    Args:
        devices: the GPUs that engines are built for.
        command: named in messages; builds the engines on this machine.

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
        """Builds the engine of an ONNX file, whose weights may lie beside it.

        Args:
            path: the ONNX file.
            profiles: optimization profiles; none for a graph whose sizes are all fixed.

        Returns:
            The serialised engine.

        Raises:
            BuildError: TensorRT refuses the graph, or memory is short.
            UserError: it does not know a GPU.
            KeyboardInterrupt: its progress monitor cancelled it.
        """
        name = path.name
        network = self._builder.create_network(network_flags(self.trt))
        parser = self.trt.OnnxParser(network, self._logger)  # alive until the end: the network's weights may be its
        # From the file: a model with its weights is too large for one protobuf message.
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
        self._logger.lines = lines  # without settings that were refused, which no failure comes from
        if self.progress is not None:
            config.progress_monitor = self.progress
        return config

    def _failure(self, what: str) -> BuildError:
        return BuildError(what, self._logger.lines, self._command)


def make_config(trt: ModuleType, builder: Any, devices: Devices) -> Any:
    """Makes the builder's configuration that all engines are built with.

    Args:
        trt: TensorRT's or TensorRT-RTX's module.
        builder: its `Builder`.
        devices: the GPUs that engines are built for.

    Returns:
        An `IBuilderConfig`.
    """
    config = builder.create_builder_config()
    # On by default, it would round float32 products to 10 bits.
    config.clear_flag(trt.BuilderFlag.TF32)
    config.max_aux_streams = SETTINGS["max_aux_streams"]  # one stream: the least memory, and simply captured
    devices.configure(trt, config)
    return config


def add_profiles(builder: Any, network: Any, config: Any, profiles: Sequence[Profile]) -> str:
    """Adds optimization profiles for the inputs whose sizes are not fixed.

    Args:
        builder: TensorRT's `Builder`.
        network: the parsed graph.
        config: gets the profiles.
        profiles: shapes by the names of inputs.

    Returns:
        What is wrong with a profile; empty when all were added.
    """
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
    """Returns the flags of a strongly typed network, which is an option in TensorRT 10 and the only kind in 11."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)
