"""The double's execution context: what is set, what is missing, and what of it a CUDA graph has kept."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from .memory import POISON, overlap
from .names import Named
from .settings import Violation
from .streams import Work

State = tuple[Any, ...]


class IExecutionContext(Named):
    """State of one inference at a time."""

    def __init__(self, trt: Any, engine: Any, strategy: Any):
        self._trt, self._engine = trt, engine
        self._managed = strategy == trt.ExecutionContextAllocationStrategy.USER_MANAGED
        self._profile = 0
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._block = (0, 0)
        self._warm: State | None = None
        self._reset_shapes()

    def _reset_shapes(self) -> None:
        static = {name: self._engine.get_tensor_shape(name) for name in self._engine._header["inputs"]}
        self._shapes = {name: shape for name, shape in static.items() if -1 not in shape}

    def _say(self, text: str) -> bool:
        self._trt._log(self._engine._runtime._logger, "ERROR", text)
        return False

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        self._trt._driver.stream(stream_handle)
        if not 0 <= profile_index < self._engine.num_optimization_profiles:
            raise RuntimeError("Error in set optimization profile async.")
        if profile_index != self._profile:
            self._profile = profile_index
            self._reset_shapes()
        return True

    @property
    def active_optimization_profile(self) -> int:
        return self._profile

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        known, shape = self._engine._header["inputs"].get(name), tuple(map(int, shape))
        if len(shape) > 8:
            raise RuntimeError("The maximum number of dimensions is 8")
        if known is None:
            return self._say(f"IExecutionContext::setInputShape: {name} is no input")
        low, _, high = self._engine.get_tensor_profile_shape(name, self._profile)
        static = self._engine.get_tensor_shape(name)
        if len(shape) != len(static):
            return self._say(f"IExecutionContext::setInputShape: {name} has rank {len(static)}, not {len(shape)}")
        if any(dim not in (-1, here) for dim, here in zip(static, shape, strict=True)):
            return self._say("Static dimension mismatch while setting input shape.")
        if any(not a <= b <= c for a, b, c in zip(low, shape, high, strict=True)):
            return self._say(
                "IExecutionContext::setInputShape: Error Code 3: API Usage Error (Parameter check failed, condition: "
                f"satisfyProfile. Runtime dimension does not satisfy any optimization profile. {name} {shape})"
            )
        self._shapes[name] = shape
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        shapes, _ = self._engine._shapes(self._shapes)
        return shapes.get(name, self._engine.get_tensor_shape(name))

    def infer_shapes(self) -> list[str]:
        return [name for name in self._engine._header["inputs"] if name not in self._shapes]

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if name not in self._engine._io:
            return self._say(f"IExecutionContext::setTensorAddress: {name} is no input or output")
        if memory % 256:
            return self._say(f"IExecutionContext::setTensorAddress: the address of {name} is not aligned")
        self._addresses[name] = memory
        return True

    def get_tensor_address(self, name: str) -> int:
        return self._addresses.get(name, 0)

    def set_device_memory(self, memory: int, size: int) -> None:
        if memory % 512:
            self._say("setDeviceMemory: memory must be aligned on 512 byte boundary")
            return
        self._block = (memory, size)

    def update_device_memory_size_for_shapes(self) -> int:
        if self.infer_shapes():
            return 0
        return self._engine.get_device_memory_size_for_profile_v2(self._profile)

    def _state(self) -> State:
        return self._profile, tuple(self._shapes.items()), tuple(self._addresses.items()), self._block

    def execute_async_v3(self, stream_handle: int) -> bool:
        trt = self._trt
        if problem := self._unset():
            return self._say(f"IExecutionContext::enqueueV3: Error Code 3: API Usage Error ({problem})")
        settings, stream = trt._settings, trt._driver.stream(stream_handle)
        if settings.fail_enqueue is not None:
            settings.fail_enqueue -= 1
            if settings.fail_enqueue < 0:
                settings.fail_enqueue = None
                return self._say("IExecutionContext::enqueueV3: Error Code 1: Cuda Runtime (an illegal memory access)")
        ranges = self._ranges()
        self._check_overlaps(ranges)
        state = self._state()
        if stream.capture is not None and (not settings.capturable or self._warm != state):
            stream.capture_broken = True
            return self._say("Error Code 1: Cuda Runtime (operation not permitted when stream is capturing)")
        if stream.handle == 0:
            self._trt._log(self._engine._runtime._logger, "WARNING", "Using default stream in enqueueV3()")
        self._warm = state
        for other in trt._driver.streams:
            if other is not stream and any(overlap(work.block, self._block) for work in other.pending):
                raise Violation("contexts that share memory run at the same time")
        settings.count("enqueues")
        reference = weakref.ref(self)
        stream.submit(
            Work(_Enqueue(self._engine, ranges, self._block), lambda: _same(reference, state), block=self._block)
        )
        return True

    def _unset(self) -> str | None:
        header = self._engine._header
        missing = self.infer_shapes()
        if missing:
            return f"Not all shapes are specified. Following input tensors' dimensions are not specified: {missing}."
        if problem := self._engine._shapes(self._shapes)[1]:
            return problem
        for name in header["inputs"]:
            if not self._addresses.get(name):
                return (
                    f"Address is not set for input tensor {name}. Call setInputTensorAddress or setTensorAddress "
                    "before enqueue/execute."
                )
        for name in header["outputs"]:
            if not self._addresses.get(name):
                return f"Neither address or allocator is set for output tensor {name}. Call setOutputTensorAddress"
        needed = self._engine.get_device_memory_size_for_profile_v2(self._profile)
        if self._managed and (not self._block[0] or self._block[1] < needed):
            return f"The context has {self._block[1]} bytes of device memory, {needed} are needed"
        return None

    def _ranges(self) -> dict[str, tuple[int, tuple[int, ...], type[np.generic]]]:
        shapes, _ = self._engine._shapes(self._shapes)
        return {n: (self._addresses[n], s, self._engine._dtype(n)) for n, s in shapes.items()}

    def _check_overlaps(self, ranges: dict[str, Any]) -> None:
        memory, header = self._trt._driver.memory, self._engine._header
        spans = {}
        for name, (address, shape, dtype) in ranges.items():
            spans[name] = (address, math.prod(shape) * np.dtype(dtype).itemsize)
            memory.view(*spans[name], "device")
        if self._managed:
            memory.view(*self._block, "device")
            for name, span in spans.items():
                if overlap(span, self._block):
                    raise Violation(f"{name} lies in the memory of the context")
        for output in header["outputs"]:
            for name, span in spans.items():
                if name != output and overlap(spans[output], span):
                    raise Violation(f"output {output} overlaps {name}")


def _same(reference: weakref.ref[IExecutionContext], state: State) -> None:
    context = reference()
    if context is None:
        raise Violation("the context of a captured graph is gone")
    if context._state() != state:
        raise Violation("a context was changed after its graph was captured")


class _Enqueue:
    """The run itself, with what was bound when it was handed in."""

    def __init__(self, engine: Any, ranges: dict[str, Any], block: tuple[int, int]):
        self._engine, self._ranges, self._block = engine, ranges, block

    def __call__(self) -> None:
        engine, memory = self._engine, self._engine._trt._driver.memory
        arrays = {}
        for name, (address, shape, dtype) in self._ranges.items():
            size = math.prod(shape) * np.dtype(dtype).itemsize
            arrays[name] = memory.view(address, size, "device").view(dtype).reshape(shape)
        if self._block[0]:
            memory.view(*self._block, "device").fill(POISON)
        inputs = {name: arrays[name].copy() for name in engine._header["inputs"]}
        for name, values in engine._run(inputs).items():
            arrays[name][...] = values
