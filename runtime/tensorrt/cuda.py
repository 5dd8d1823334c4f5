"""What the TensorRT runner needs of CUDA: device and pinned memory, a stream, events, captured graphs.

Each thing here is given back by `close`, which may be called twice. A stream's work is done before anything is freed.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from mobilevlm.engines.tensorrt.cuda_device import CudaError, bindings, call

# What TensorRT asks of every address it is given (256), and of a context's own memory.
ALIGNMENT = 512


def aligned(size: int, alignment: int = ALIGNMENT) -> int:
    """A size rounded up."""
    return -(-size // alignment) * alignment


class Layout:
    """Where things lie in a block of memory: name to offset, each aligned."""

    def __init__(self) -> None:
        self.offsets: dict[str, int] = {}
        self.size = 0

    def add(self, name: str, size: int) -> int:
        """Reserve `size` bytes and return their offset."""
        self.offsets[name] = self.size
        self.size += aligned(max(size, 1))
        return self.offsets[name]


class DeviceMemory:
    """A block of the GPU's memory, zeros at first.

    Raises:
        CudaError: memory is short.
    """

    def __init__(self, size: int, stream: Stream):
        self.size = size
        self.address: int = int(call("cudaMalloc", size))
        call("cudaMemsetAsync", self.address, 0, size, stream.handle)

    def close(self) -> None:
        """Free it."""
        address, self.address = self.address, 0
        if address:
            call("cudaFree", address)


class PinnedMemory:
    """A block of the host's memory that the GPU copies from and to by itself, zeros at first.

    Raises:
        CudaError: memory is short.
    """

    def __init__(self, size: int):
        self.size = size
        self.address: int = int(call("cudaHostAlloc", size, bindings().cudaHostAllocDefault))
        self.array(0, (size,), np.uint8)[...] = 0

    def array(self, offset: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """A part of it; not to be used after `close`."""
        size = prod(shape) * np.dtype(dtype).itemsize
        if offset + size > self.size:
            raise ValueError(f"{size} bytes at {offset} reach over the end of {self.size}")
        return np.frombuffer((ctypes.c_uint8 * size).from_address(self.address + offset), dtype).reshape(shape)

    def close(self) -> None:
        """Free it."""
        address, self.address = self.address, 0
        if address:
            call("cudaFreeHost", address)


class Stream:
    """A queue of the GPU's work; not the default one, which would wait for everything and cannot be captured."""

    def __init__(self) -> None:
        self.handle: Any = call("cudaStreamCreateWithFlags", bindings().cudaStreamNonBlocking)
        self._is_open = True

    def __int__(self) -> int:
        return int(self.handle)

    def to_device(self, device: int, host: int, size: int) -> None:
        """Copy from pinned memory; what it holds may change once the stream has done it."""
        call("cudaMemcpyAsync", device, host, size, bindings().cudaMemcpyKind.cudaMemcpyHostToDevice, self.handle)

    def to_host(self, host: int, device: int, size: int) -> None:
        """Copy to pinned memory, where it is once the stream has done it."""
        call("cudaMemcpyAsync", host, device, size, bindings().cudaMemcpyKind.cudaMemcpyDeviceToHost, self.handle)

    def copy_rows(self, to: int, to_pitch: int, out_of: int, out_pitch: int, width: int, height: int) -> None:
        """Copy `height` pieces of `width` bytes that lie `pitch` bytes apart, on the device."""
        kind = bindings().cudaMemcpyKind.cudaMemcpyDeviceToDevice
        call("cudaMemcpy2DAsync", to, to_pitch, out_of, out_pitch, width, height, kind, self.handle)

    def synchronize(self) -> None:
        """Wait until all is done; errors of what was queued come up here."""
        call("cudaStreamSynchronize", self.handle)

    def capture(self, work: Callable[[], None]) -> Graph:
        """What `work` queues, as a graph that does it in one launch.

        Raises:
            CudaError: it cannot be captured.
            UserError: `work`'s own. Either way the stream is as it was.
        """
        mode = bindings().cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        call("cudaStreamBeginCapture", self.handle, mode)
        try:
            work()
        except BaseException:
            with contextlib.suppress(CudaError):
                _destroy(call("cudaStreamEndCapture", self.handle))
            raise
        return Graph(call("cudaStreamEndCapture", self.handle))

    def close(self) -> None:
        """Wait for its work, and give it back."""
        if self._is_open:
            self._is_open = False
            try:
                self.synchronize()
            finally:
                call("cudaStreamDestroy", self.handle)


class Graph:
    """Captured work; owns the graph it is given."""

    def __init__(self, graph: Any):
        try:
            self._executable: Any = call("cudaGraphInstantiate", graph, 0)
        finally:
            _destroy(graph)

    def launch(self, stream: Stream) -> None:
        """Queue it."""
        call("cudaGraphLaunch", self._executable, stream.handle)

    def close(self) -> None:
        """Give it back."""
        executable, self._executable = self._executable, None
        if executable is not None:
            call("cudaGraphExecDestroy", executable)


def _destroy(graph: Any) -> None:
    if graph is not None:
        call("cudaGraphDestroy", graph)


class Event:
    """A mark in a stream's work."""

    def __init__(self) -> None:
        self.handle: Any = call("cudaEventCreateWithFlags", bindings().cudaEventDefault)

    def record(self, stream: Stream) -> None:
        """Put it behind what is queued."""
        call("cudaEventRecord", self.handle, stream.handle)

    def wait(self) -> None:
        """Until it is reached; at once when it was never recorded."""
        call("cudaEventSynchronize", self.handle)

    def milliseconds_since(self, earlier: Event) -> float:
        """Between two that were reached."""
        return float(call("cudaEventElapsedTime", earlier.handle, self.handle))

    def close(self) -> None:
        """Give it back."""
        handle, self.handle = self.handle, None
        if handle is not None:
            call("cudaEventDestroy", handle)
