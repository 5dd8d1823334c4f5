"""The double's `cuda.bindings.runtime`: every call returns a tuple that begins with an error."""

from __future__ import annotations

import enum
import types
from typing import Any

from .memory import POISON, Memory
from .settings import Settings, Violation
from .streams import Event, Graph, Stream, Work

HANDLES = ("cudaStream_t", "cudaEvent_t", "cudaGraph_t", "cudaGraphExec_t")


class cudaError_t(enum.IntEnum):
    """Those the double knows."""

    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorNotReady = 600
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorStreamCaptureInvalidated = 901


class cudaMemcpyKind(enum.IntEnum):
    """Direction of a copy."""

    cudaMemcpyHostToHost = 0
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3


class cudaDeviceAttr(enum.IntEnum):
    """Those asked for."""

    cudaDevAttrIntegrated = 18
    cudaDevAttrComputeCapabilityMajor = 75
    cudaDevAttrComputeCapabilityMinor = 76


class cudaStreamCaptureMode(enum.IntEnum):
    """How strict a capture is."""

    cudaStreamCaptureModeGlobal = 0
    cudaStreamCaptureModeThreadLocal = 1
    cudaStreamCaptureModeRelaxed = 2


class Handle:
    """What the bindings hand out: an object that `int` turns into a number."""

    def __init__(self, kind: str, number: int):
        self.kind, self.number = kind, number

    def __int__(self) -> int:
        return self.number


SIDES = {1: ("pinned", "device"), 2: ("device", "pinned"), 3: ("device", "device")}
OK = cudaError_t.cudaSuccess


class Driver:
    """The state behind the module: one device."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.memory = Memory(settings.memory_bytes)
        self.objects: dict[int, Any] = {0: Stream(0)}

    def stream(self, handle: Any) -> Stream:
        """By what a caller has of it."""
        found = self.objects.get(int(handle or 0))
        if not isinstance(found, Stream):
            raise Violation(f"{handle} is no stream, or was destroyed")
        return found

    @property
    def streams(self) -> list[Stream]:
        """All of them."""
        return [one for one in self.objects.values() if isinstance(one, Stream)]

    def new(self, kind: str, thing: Any) -> Handle:
        """A handle for it."""
        number = max(self.objects) + 16
        self.objects[number] = thing
        if isinstance(thing, Stream):
            thing.handle = number
        return Handle(kind, number)

    def breaks_capture(self) -> bool:
        """Whether a stream is capturing, whose capture this call has just spoilt."""
        capturing = [one for one in self.streams if one.capture is not None]
        for one in capturing:
            one.capture_broken = True
        return bool(capturing)

    def copy(self, dst: int, src: int, rows: tuple[int, int, int, int], kind: int, stream: Any) -> cudaError_t:
        """Hand in a copy of `height` rows of `width` bytes, (dpitch, spitch, width, height) = `rows`."""
        dpitch, spitch, width, height = rows
        if int(kind) not in SIDES or width > min(dpitch, spitch) or min(width, height) < 1:
            return cudaError_t.cudaErrorInvalidValue
        src_kind, dst_kind = SIDES[int(kind)]

        def ends() -> tuple[Any, Any]:
            reach = [pitch * (height - 1) + width for pitch in (dpitch, spitch)]
            return self.memory.view(dst, reach[0], dst_kind), self.memory.view(src, reach[1], src_kind)

        def run() -> None:
            into, out = ends()
            if dst_kind == "pinned":
                self.settings.count("bytes to the host", width * height)
            for row in range(height):
                into[row * dpitch : row * dpitch + width] = out[row * spitch : row * spitch + width]

        def begin() -> None:  # what was there may be gone already (also for copies from there), what comes is not there
            into, _ = ends()
            for row in range(height if dst_kind == "pinned" else 0):
                into[row * dpitch : row * dpitch + width] = POISON

        ends()
        self.stream(stream).submit(Work(run, lambda: ends() and None, begin))
        return OK


def module(settings: Settings, name: str = "cuda.bindings.runtime") -> types.ModuleType:
    """The module, over a device of its own; `_driver` is that device."""
    self = types.ModuleType(name)
    driver = Driver(settings)
    self._driver = driver
    for enumeration in (cudaError_t, cudaMemcpyKind, cudaDeviceAttr, cudaStreamCaptureMode):
        setattr(self, enumeration.__name__, enumeration)
    self.cudaStreamNonBlocking, self.cudaHostAllocDefault, self.cudaEventDefault = 1, 0, 0
    calls = Calls(driver)
    for call in (name for name in dir(calls) if name.startswith("cuda")):
        setattr(self, call, _until_lost(settings, call, getattr(calls, call)))
    return self


def _until_lost(settings: Settings, name: str, call: Any) -> Any:
    def guarded(*arguments: Any) -> Any:
        result = call(*arguments)
        if settings.lose is not None and settings.lose < 0 and not name.startswith("cudaGetError"):
            return (cudaError_t.cudaErrorIllegalAddress, *(None for _ in result[1:]))
        return result

    return guarded


class Calls:
    """The functions; names, arguments and results are those of cuda-bindings 12.9 and 13."""

    def __init__(self, driver: Driver):
        self._driver = driver

    def cudaGetErrorName(self, error):
        return OK, error.name.encode()

    def cudaGetErrorString(self, error):
        return OK, error.name.removeprefix("cudaError").encode()

    def cudaGetLastError(self):
        return (OK,)

    def cudaSetDevice(self, device):
        return (OK if device == 0 else cudaError_t.cudaErrorInvalidValue,)

    def cudaDeviceGetAttribute(self, attribute, device):
        major, minor = self._driver.settings.capability
        return OK, {18: int(self._driver.settings.integrated), 75: major, 76: minor}[int(attribute)]

    def cudaMemGetInfo(self):
        memory = self._driver.memory
        return OK, memory.capacity - memory.used, memory.capacity

    def cudaMalloc(self, size):
        return self._allocate(size, "device")

    def cudaHostAlloc(self, size, flags):
        return self._allocate(size, "pinned")

    def _allocate(self, size, kind):
        if self._driver.breaks_capture():
            return cudaError_t.cudaErrorStreamCaptureUnsupported, None
        address = self._driver.memory.allocate(size, kind)
        return (OK, address) if address is not None else (cudaError_t.cudaErrorMemoryAllocation, None)

    def cudaFree(self, address):
        return self._free(address, "device")

    def cudaFreeHost(self, address):
        return self._free(address, "pinned")

    def _free(self, address, kind):
        if any(stream.pending for stream in self._driver.streams):
            raise Violation(f"{address:#x} is freed while work is pending")
        return (OK if self._driver.memory.free(address, kind) else cudaError_t.cudaErrorInvalidValue,)

    def cudaMemsetAsync(self, address, value, count, stream):
        memory = self._driver.memory
        memory.view(address, count, "device")
        self._driver.stream(stream).submit(Work(lambda: memory.view(address, count).fill(value)))
        return (OK,)

    def cudaMemcpyAsync(self, dst, src, count, kind, stream):
        return (self._driver.copy(dst, src, (count, count, count, 1), kind, stream),)

    def cudaMemcpy2DAsync(self, dst, dpitch, src, spitch, width, height, kind, stream):
        settings = self._driver.settings
        if settings.fail_copy is not None:
            settings.fail_copy -= 1
            if settings.fail_copy < 0:
                settings.fail_copy = None
                return (cudaError_t.cudaErrorInvalidValue,)
        if settings.lose is not None:
            settings.lose -= 1
        settings.count("strided copies")
        return (self._driver.copy(dst, src, (dpitch, spitch, width, height), kind, stream),)

    def cudaStreamCreateWithFlags(self, flags):
        return OK, self._driver.new("cudaStream_t", Stream(0))

    def cudaStreamDestroy(self, stream):
        if self._driver.stream(stream).pending:
            raise Violation("a stream is destroyed while work is pending")
        del self._driver.objects[int(stream)]
        return (OK,)

    def cudaStreamSynchronize(self, stream):
        if self._driver.breaks_capture():
            return (cudaError_t.cudaErrorStreamCaptureUnsupported,)
        self._driver.stream(stream).finish()
        return (OK,)

    def cudaStreamBeginCapture(self, stream, mode):
        found = self._driver.stream(stream)
        if found.handle == 0 or found.capture is not None:
            return (cudaError_t.cudaErrorStreamCaptureUnsupported,)
        found.capture, found.capture_broken = [], False
        return (OK,)

    def cudaStreamEndCapture(self, stream):
        found = self._driver.stream(stream)
        works, found.capture = found.capture, None
        if works is None or found.capture_broken:
            return cudaError_t.cudaErrorStreamCaptureInvalidated, None
        return OK, self._driver.new("cudaGraph_t", Graph(works))

    def cudaGraphInstantiate(self, graph, flags):
        return OK, self._driver.new("cudaGraphExec_t", Graph(self._driver.objects[int(graph)].works))

    def cudaGraphLaunch(self, graph, stream):
        self._driver.settings.count("graph launches")
        self._driver.objects[int(graph)].launch(self._driver.stream(stream))
        return (OK,)

    def cudaGraphDestroy(self, graph):
        return self._forget(graph)

    def cudaGraphExecDestroy(self, graph):
        return self._forget(graph)

    def _forget(self, graph):
        self._driver.objects.pop(int(graph)).destroyed = True
        return (OK,)

    def cudaEventCreateWithFlags(self, flags):
        return OK, self._driver.new("cudaEvent_t", Event())

    def cudaEventRecord(self, event, stream):
        self._driver.objects[int(event)].record(self._driver.stream(stream))
        return (OK,)

    def cudaEventSynchronize(self, event):
        if self._driver.breaks_capture():
            return (cudaError_t.cudaErrorStreamCaptureUnsupported,)
        self._driver.objects[int(event)].wait()
        return (OK,)

    def cudaEventElapsedTime(self, start, end):
        ends = [self._driver.objects[int(event)].at for event in (start, end)]
        if None in ends:
            return cudaError_t.cudaErrorNotReady, 0.0
        return OK, (ends[1] - ends[0]) * 1e3

    def cudaEventDestroy(self, event):
        del self._driver.objects[int(event)]
        return (OK,)
