"""Device and pinned memory, streams, events and captured graphs of CUDA, as the TensorRT runner needs them.

Each is freed by `close`, which may be called twice. A stream's work is done before anything is freed.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import numpy as np

from mobilevlm.engines.tensorrt.cuda_device import CudaError, bindings, call

# Multiple that TensorRT asks of a context's memory; of every other address it asks 256.
ALIGNMENT = 512


def aligned(size: int, alignment: int = ALIGNMENT) -> int:
    """Rounds a size up.

    Args:
        size: in bytes.
        alignment: that the result is a multiple of.
    """
    return -(-size // alignment) * alignment


class Layout:
    """Regions of a block of memory.

    Attributes:
        offsets: of the regions by name, in bytes, each aligned.
        size: bytes of the block.
    """

    def __init__(self) -> None:
        self.offsets: dict[str, int] = {}
        self.size = 0

    def add(self, name: str, size: int) -> int:
        """Reserves a region and returns its offset.

        Args:
            name: of the region.
            size: in bytes.
        """
        self.offsets[name] = self.size
        self.size += aligned(max(size, 1))
        return self.offsets[name]


class DeviceMemory:
    """A block of the GPU's memory, zeros at first.

    Args:
        size: in bytes.
        stream: that writes the zeros.

    Raises:
        CudaError: memory is short.
    """

    def __init__(self, size: int, stream: Stream):
        self.size = size
        self.address: int = int(call("cudaMalloc", size))
        call("cudaMemsetAsync", self.address, 0, size, stream.handle)

    def close(self) -> None:
        """Frees the block."""
        address, self.address = self.address, 0
        if address:
            call("cudaFree", address)


class PinnedMemory:
    """A block of the host's memory that the GPU copies from and to, zeros at first.

    Raises:
        CudaError: memory is short.
    """

    def __init__(self, size: int):
        self.size = size
        self.address: int = int(call("cudaHostAlloc", size, bindings().cudaHostAllocDefault))
        self.array(0, (size,), np.uint8)[...] = 0

    def array(self, offset: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Returns a view of a part; not to be used after `close`.

        Args:
            offset: of its first byte.
            shape: of the array.
            dtype: of the array.
        """
        size = prod(shape) * np.dtype(dtype).itemsize
        if offset + size > self.size:
            raise ValueError(f"{size} bytes at {offset} reach over the end of {self.size}")
        return np.frombuffer((ctypes.c_uint8 * size).from_address(self.address + offset), dtype).reshape(shape)

    def close(self) -> None:
        """Frees the block."""
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
        """Queues a copy from pinned memory, which may change once the stream has done it.

        Args:
            device: address to copy to.
            host: address to copy from.
            size: in bytes.
        """
        call("cudaMemcpyAsync", device, host, size, bindings().cudaMemcpyKind.cudaMemcpyHostToDevice, self.handle)

    def to_host(self, host: int, device: int, size: int) -> None:
        """Queues a copy to pinned memory, where it is once the stream has done it.

        Args:
            host: address to copy to.
            device: address to copy from.
            size: in bytes.
        """
        call("cudaMemcpyAsync", host, device, size, bindings().cudaMemcpyKind.cudaMemcpyDeviceToHost, self.handle)

    def copy_rows(self, to: int, to_pitch: int, out_of: int, out_pitch: int, width: int, height: int) -> None:
        """Queues a strided copy on the device.

        Args:
            to: address to copy to.
            to_pitch: bytes from the start of one row to the next, there.
            out_of: address to copy from.
            out_pitch: bytes from the start of one row to the next, there.
            width: bytes of a row.
            height: number of rows.
        """
        kind = bindings().cudaMemcpyKind.cudaMemcpyDeviceToDevice
        call("cudaMemcpy2DAsync", to, to_pitch, out_of, out_pitch, width, height, kind, self.handle)

    def rows_to_host(self, host: int, host_pitch: int, device: int, pitch: int, width: int, height: int) -> None:
        """Queues a strided copy to pinned memory.

        Args:
            host: address to copy to.
            host_pitch: bytes from the start of one row to the next, there.
            device: address to copy from.
            pitch: bytes from the start of one row to the next, there.
            width: bytes of a row.
            height: number of rows.
        """
        kind = bindings().cudaMemcpyKind.cudaMemcpyDeviceToHost
        call("cudaMemcpy2DAsync", host, host_pitch, device, pitch, width, height, kind, self.handle)

    def rows_to_device(self, device: int, pitch: int, host: int, host_pitch: int, width: int, height: int) -> None:
        """Queues a strided copy from pinned memory.

        Args:
            device: address to copy to.
            pitch: bytes from the start of one row to the next, there.
            host: address to copy from.
            host_pitch: bytes from the start of one row to the next, there.
            width: bytes of a row.
            height: number of rows.
        """
        kind = bindings().cudaMemcpyKind.cudaMemcpyHostToDevice
        call("cudaMemcpy2DAsync", device, pitch, host, host_pitch, width, height, kind, self.handle)

    def synchronize(self) -> None:
        """Waits until all queued work is done; its errors are raised here."""
        call("cudaStreamSynchronize", self.handle)

    def capture(self, work: Callable[[], None]) -> Graph:
        """Captures what `work` queues, as a graph that does it in one launch.

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
        """Waits for its work, and destroys it."""
        if self._is_open:
            self._is_open = False
            try:
                self.synchronize()
            finally:
                call("cudaStreamDestroy", self.handle)


@contextlib.contextmanager
def settled(stream: Stream) -> Iterator[None]:
    """Leaves nothing queued behind an error, so that the next question can be answered."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(CudaError):  # where the GPU's state is lost, the next call says so again
            stream.synchronize()
        raise


class Graph:
    """Captured work; owns the graph it is given."""

    def __init__(self, graph: Any):
        try:
            self._executable: Any = call("cudaGraphInstantiate", graph, 0)
        finally:
            _destroy(graph)

    def launch(self, stream: Stream) -> None:
        """Queues the captured work."""
        call("cudaGraphLaunch", self._executable, stream.handle)

    def close(self) -> None:
        """Destroys it."""
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
        """Marks the end of what is queued."""
        call("cudaEventRecord", self.handle, stream.handle)

    def wait(self) -> None:
        """Waits until the mark is reached; not at all when it was never recorded."""
        call("cudaEventSynchronize", self.handle)

    def milliseconds_since(self, earlier: Event) -> float:
        """Measures the time between two marks that were reached."""
        return float(call("cudaEventElapsedTime", earlier.handle, self.handle))

    def close(self) -> None:
        """Destroys it."""
        handle, self.handle = self.handle, None
        if handle is not None:
            call("cudaEventDestroy", handle)
