"""TensorRT's engines and execution contexts, with a message for everything that TensorRT refuses."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from mobilevlm.engines.bundle import BundleError
from mobilevlm.engines.tensorrt.library import Library, import_tensorrt
from mobilevlm.engines.tensorrt.log import explained, make_logger

from .cuda import Stream
from .kernels import Kernels

Shape = tuple[int, ...]


class TrtError(BundleError):
    """TensorRT refused something; the message says what helps."""


class Loader:
    """Loads engine files; outlives what it loads.

    Args:
        library: that they were made with.
        command: command line that makes the engines again.
    """

    def __init__(self, library: Library, command: str):
        self.trt: ModuleType = import_tensorrt(library)
        self._command = command
        self._logger = make_logger(self.trt)
        try:
            self._runtime = self.trt.Runtime(self._logger)
        except TypeError:  # what a null pointer becomes in Python
            raise self.failure("TensorRT could not be started") from None

    def load(self, path: Path, kernels: Path | None = None) -> Engine:
        """Loads an engine.

        Args:
            path: of its file.
            kernels: for TensorRT-RTX, the file that compiled kernels are kept in.

        Raises:
            TrtError: it is for another machine or version, damaged, or does not fit into memory.
        """
        self._logger.lines.clear()
        # Mapped: beside the engine's own copy of its weights, the file's pages can be dropped.
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            engine = self._runtime.deserialize_cuda_engine(content)
        if engine is None:
            raise self.failure(f"{path} could not be loaded")
        return Engine(self, path.name, engine, Kernels(self.trt, engine, kernels) if kernels else None)

    def failure(self, what: str) -> TrtError:
        """Returns an error to raise, with the reason from the log."""
        lines, self._logger.lines = self._logger.lines, []
        return TrtError(explained(what, lines, self._command))


class Engine:
    """A loaded engine.

    Args:
        loader: that loaded it.
        name: of its file.
        engine: TensorRT's `ICudaEngine`.
        kernels: its compiled kernels, for TensorRT-RTX.

    Attributes:
        loader: as above.
        name: as above.
        handle: `engine` above.
        inputs: names of its inputs.
        outputs: names of its outputs.
        scratch_bytes: memory that a context needs while it runs, by its largest profile.
    """

    def __init__(self, loader: Loader, name: str, engine: Any, kernels: Kernels | None):
        self.loader, self.name, self.handle, self._kernels = loader, name, engine, kernels
        modes = loader.trt.TensorIOMode
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        self.inputs = [name for name in names if engine.get_tensor_mode(name) == modes.INPUT]
        self.outputs = [name for name in names if engine.get_tensor_mode(name) == modes.OUTPUT]
        self.scratch_bytes = int(engine.device_memory_size_v2)

    @property
    def num_profiles(self) -> int:
        """Number of optimization profiles."""
        return self.handle.num_optimization_profiles

    def largest(self, name: str, profile: int) -> Shape:
        """Returns the largest shape of an input in a profile.

        Args:
            name: of the input.
            profile: its index.
        """
        return tuple(self.handle.get_tensor_profile_shape(name, profile)[2])

    def shape(self, name: str) -> Shape:
        """Returns a tensor's shape, -1 where it depends on the call; outputs are in no profile."""
        return tuple(self.handle.get_tensor_shape(name))

    def dtype(self, name: str) -> np.dtype:
        """Returns a tensor's dtype."""
        return np.dtype(self.loader.trt.nptype(self.handle.get_tensor_dtype(name)))

    def size(self, name: str, shape: Shape) -> int:
        """Returns the bytes of a tensor.

        Args:
            name: of the tensor.
            shape: that it has in a call.
        """
        return prod(shape) * self.dtype(name).itemsize

    def keep_kernels(self) -> None:
        """Keeps what TensorRT-RTX has compiled."""
        if self._kernels:
            self._kernels.keep()

    def context(self, scratch: int, size: int) -> Context:
        """Makes an execution context that works in the caller's memory.

        Args:
            scratch: address of memory that no other context uses at the same time.
            size: bytes of that memory, at least `scratch_bytes`.

        Raises:
            TrtError: there is no memory for it.
        """
        strategy = self.loader.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        context = self.handle.create_execution_context(self._kernels.config if self._kernels else strategy)
        if context is None:
            raise self.loader.failure(f"{self.name} has no room to run")
        context.set_device_memory(scratch, size)
        return Context(self, context)


class Context:
    """State of one inference: a profile, shapes and addresses.

    Args:
        engine: that runs.
        handle: TensorRT's `IExecutionContext`.
    """

    def __init__(self, engine: Engine, handle: Any):
        self._engine, self._handle = engine, handle

    def bind(self, profile: int, shapes: Mapping[str, Shape], addresses: Mapping[str, int], stream: Stream) -> None:
        """Sets profile, shapes and addresses of the runs to come.

        Args:
            profile: its index.
            shapes: shapes of the inputs that are not always the same.
            addresses: device addresses of all inputs and outputs, each a multiple of 256.
            stream: that the runs will be queued to.

        Raises:
            TrtError: the engine does not take it.
        """
        handle, engine = self._handle, self._engine
        try:
            fits = handle.set_optimization_profile_async(profile, int(stream))
            fits = fits and all(handle.set_input_shape(name, shape) for name, shape in shapes.items())
            fits = fits and all(handle.set_tensor_address(name, address) for name, address in addresses.items())
            missing = handle.infer_shapes() if fits else []
        except RuntimeError as error:
            raise engine.loader.failure(f"{engine.name} does not take profile {profile} ({error})") from None
        if not fits or missing:
            detail = f", {', '.join(missing)} missing" if missing else ""
            raise engine.loader.failure(f"{engine.name} does not take what it should run{detail}")

    def run(self, stream: Stream) -> None:
        """Queues a run.

        Raises:
            TrtError: it was refused.
        """
        if not self._handle.execute_async_v3(int(stream)):
            raise self._engine.loader.failure(f"{self._engine.name} could not run")
