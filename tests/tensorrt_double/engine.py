"""The double's engines: plans that run through ONNX Runtime, with float32 arithmetic where they are float16."""

from __future__ import annotations

import weakref
from functools import cached_property
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from .context import IExecutionContext
from .float32 import in_float32
from .names import Named
from .plan import unpack
from .profiles import bind

DTYPES = {
    onnx.TensorProto.FLOAT: ("FLOAT", np.float32),
    onnx.TensorProto.FLOAT16: ("HALF", np.float16),
    onnx.TensorProto.INT64: ("INT64", np.int64),
    onnx.TensorProto.INT32: ("INT32", np.int32),
    onnx.TensorProto.BOOL: ("BOOL", np.bool_),
}
CONTEXT_BYTES = 1 << 16


class Runtime(Named):
    """Loads plans."""

    def __init__(self, trt: Any, logger: Any):
        self._trt, self._logger = trt, logger

    def deserialize_cuda_engine(self, serialized_engine: Any) -> ICudaEngine | None:
        trt = self._trt
        unpacked = unpack(bytes(serialized_engine))
        if unpacked is None:
            return self._refuse(
                "Error Code 1: Serialization (Serialization assertion magicTagRead == kMAGIC_TAG failed.)"
            )
        header, model = unpacked
        if header["version"] != trt.__version__:
            return self._refuse(
                "Error Code 6: API Usage Error (The engine plan file is not compatible with this version of TensorRT, "
                f"expecting library version {trt.__version__} got {header['version']}, please rebuild.)"
            )
        if not self._fits(header["capability"]):
            here, there = (".".join(map(str, pair)) for pair in (trt._settings.capability, header["capability"]))
            return self._refuse(
                "Error Code 6: API Usage Error (The engine plan file is generated on an incompatible device, "
                f"expecting compute {here} got compute {there}, please rebuild.)"
            )
        weights = sum(tensor.ByteSize() for tensor in model.graph.initializer)
        if trt._driver.memory.allocate(weights, "weights") is None:
            return self._refuse("Error Code 2: OutOfMemory (Requested size was too large.)")
        return trt._class("ICudaEngine")(trt, self, header, model)

    def _fits(self, capability: list[int]) -> bool:
        return list(self._trt._settings.capability) == capability

    def _refuse(self, text: str) -> None:
        self._trt._log(self._logger, "ERROR", f"IRuntime::deserializeCudaEngine: {text}")


class ICudaEngine(Named):
    """A plan that is loaded."""

    def __init__(self, trt: Any, runtime: Runtime, header: dict[str, Any], model: onnx.ModelProto):
        self._trt, self._runtime, self._header, self._model = trt, runtime, header, model
        self._io = header["inputs"] | header["outputs"]
        self._contexts: weakref.WeakSet[IExecutionContext] = weakref.WeakSet()
        weights = trt._driver.memory.alive[-1]
        weakref.finalize(self, trt._driver.memory.free, weights.address, "weights")

    @property
    def num_io_tensors(self) -> int:
        return len(self._io)

    @property
    def num_optimization_profiles(self) -> int:
        return len(self._header["profiles"])

    @property
    def device_memory_size_v2(self) -> int:
        return max(map(self.get_device_memory_size_for_profile_v2, range(self.num_optimization_profiles)))

    def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
        return CONTEXT_BYTES * (profile_index + 1)

    def get_tensor_name(self, index: int) -> str:
        return list(self._io)[index]

    def get_tensor_mode(self, name: str) -> Any:
        modes = self._trt.TensorIOMode
        return modes.INPUT if name in self._header["inputs"] else modes.OUTPUT if name in self._io else modes.NONE

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(-1 if isinstance(dim, str) else dim for dim in self._io.get(name, (0, ()))[1])

    def get_tensor_dtype(self, name: str) -> Any:
        return getattr(self._trt.DataType, DTYPES[self._io[name][0]][0])

    def get_tensor_location(self, name: str) -> Any:
        return self._trt.TensorLocation.DEVICE

    def is_shape_inference_io(self, name: str) -> bool:
        return False

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        if name not in self._header["inputs"]:
            return [()] * 3
        static = [self.get_tensor_shape(name)] * 3
        return [tuple(shape) for shape in self._header["profiles"][profile_index].get(name, static)]

    def create_execution_context(self, strategy: Any = None) -> IExecutionContext | None:
        strategies = self._trt.ExecutionContextAllocationStrategy
        context = self._trt._class("IExecutionContext")(self._trt, self, strategy or strategies.STATIC)
        self._contexts.add(context)
        return context

    @cached_property
    def _session(self) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        return ort.InferenceSession(in_float32(self._model).SerializeToString(), options)

    def _dtype(self, name: str) -> type[np.generic]:
        return DTYPES[self._io[name][0]][1]

    def _shapes(self, inputs: dict[str, tuple[int, ...]]) -> tuple[dict[str, tuple[int, ...]], str | None]:
        """Shapes of inputs and outputs, and what does not fit."""
        names: dict[str, int] = {}
        for name, shape in inputs.items():
            if problem := bind(self._header["inputs"][name][1], shape, names):
                return {}, f"{name}: {problem}"
        outputs = {
            name: tuple(names[dim] if isinstance(dim, str) else dim for dim in shape)
            for name, (_, shape) in self._header["outputs"].items()
        }
        return inputs | outputs, None

    def _run(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name, in the dtypes that they are bound with."""
        wide = {n: a.astype(np.float32) if a.dtype == np.float16 else a for n, a in arrays.items()}
        names = list(self._header["outputs"])
        outputs = self._session.run(names, wide)
        with np.errstate(over="ignore"):
            return {name: np.asarray(a, self._dtype(name)) for name, a in zip(names, outputs, strict=True)}
