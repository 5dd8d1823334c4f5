"""TensorRT's builder: one engine from an ONNX graph.

The same code for TensorRT 10.3 to 11: networks are strongly typed, precision is in the graph, no option chooses one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from mobilevlm.errors import UserError

from ..cuda_device import is_integrated, memory_bytes
from ..machine import available_bytes
from .log import explained, import_tensorrt, make_logger
from .profiles import Profile

# Left to the system and to what the builder allocates besides kernels and their memory.
SPARE_BYTES = 768 << 20
# Of what is free, for a kernel's scratch memory; the rest is for weights, which are held twice for a while.
WORKSPACE_SHARE = 4
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
    """TensorRT's builder, with what it measured before.

    Args:
        timing_cache: a file that is read, and written after each build.
        command: that the person is told to run when something fails.

    Attributes:
        trt: TensorRT's module.
        progress: an IProgressMonitor, or None.

    Raises:
        UserError: TensorRT is not installed, or finds no GPU.
    """

    def __init__(self, timing_cache: Path, command: str):
        self.trt = import_tensorrt()
        self.progress: Any = None
        self._logger = make_logger(self.trt)
        self._timing_cache, self._command = timing_cache, command
        self._limit = memory_limit()
        try:
            self._builder = self.trt.Builder(self._logger)
        except TypeError:  # what a null pointer becomes in Python
            raise self._failure("TensorRT's builder could not be made") from None

    def build_file(self, path: Path, profiles: Sequence[Profile]) -> memoryview:
        """The engine of an ONNX file, whose weights may lie beside it.

        Raises:
            BuildError: TensorRT refuses the graph, or memory is short.
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
        self._add_profiles(name, network, config, profiles)
        cache = self._open_timing_cache(config)
        plan = self._builder.build_serialized_network(network, config)
        if plan is None:
            if self.progress is not None and self.progress.cancelled:
                raise KeyboardInterrupt
            raise self._failure(f"{name} could not be built")
        if cache is not None:
            write_whole(self._timing_cache, memoryview(config.get_timing_cache().serialize()))
        del parser
        return memoryview(plan)

    def _config(self) -> Any:
        trt, config = self.trt, self._builder.create_builder_config()
        # On by default, it would round float32 products to 10 bits.
        config.clear_flag(trt.BuilderFlag.TF32)
        config.max_aux_streams = SETTINGS["max_aux_streams"]  # one stream: the least memory, and simply captured
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, self._limit // WORKSPACE_SHARE)
        if is_integrated():  # there it counts all that the build needs
            self._limit_tactics(config)
        if self.progress is not None:
            config.progress_monitor = self.progress
        return config

    def _limit_tactics(self, config: Any) -> None:
        """Limit the memory of a build. Of TensorRT's generations from 10.16 on some refuse sizes but powers of two."""
        pool, lines = self.trt.MemoryPoolType.TACTIC_DRAM, self._logger.lines
        config.set_memory_pool_limit(pool, self._limit)
        if config.get_memory_pool_limit(pool) != self._limit:
            self._logger.lines = lines  # without the error that it logged, which no failure comes from
            config.set_memory_pool_limit(pool, 1 << self._limit.bit_length() - 1)

    def _add_profiles(self, name: str, network: Any, config: Any, profiles: Sequence[Profile]) -> None:
        inputs = [network.get_input(index) for index in range(network.num_inputs)]
        dynamic = [tensor.name for tensor in inputs if -1 in tuple(tensor.shape)]
        for shapes in profiles:
            profile = self._builder.create_optimization_profile()
            for tensor in dynamic:
                try:
                    profile.set_shape(tensor, *shapes[tensor])
                except (RuntimeError, ValueError, KeyError) as error:
                    self._logger.lines.append(f"ERROR: optimization profile of {tensor}: {error}")
                    raise self._failure(f"{name} could not be built") from None
            if config.add_optimization_profile(profile) < 0:
                self._logger.lines.append("ERROR: optimization profile refused")
                raise self._failure(f"{name} could not be built")

    def _open_timing_cache(self, config: Any) -> Any:
        """What was measured here before; nothing when it is of another device or version."""
        with suppress(OSError):
            cache = config.create_timing_cache(self._timing_cache.read_bytes())
            if cache is not None and config.set_timing_cache(cache, False):
                return cache
        cache = config.create_timing_cache(b"")
        return cache if cache is not None and config.set_timing_cache(cache, False) else None

    def _failure(self, what: str) -> BuildError:
        return BuildError(what, self._logger.lines, self._command)


def network_flags(trt: ModuleType) -> int:
    """Strongly typed: what 10.x has to be asked for, and 11 knows nothing else."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def memory_limit() -> int:
    """Bytes that a build may take: of the GPU, on a Jetson of the whole machine."""
    free, total = memory_bytes()
    if is_integrated():  # what the system could give up is not free, and can be had
        free = min(max(free, available_bytes() or 0), total)
    return max(free - SPARE_BYTES, free // 2)


def write_whole(path: Path, content: Any) -> None:
    """Write a file so that it is there whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
