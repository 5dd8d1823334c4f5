"""Networks of a node or two, to break one rule of TensorRT's each."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FP16, FP32, INT64 = TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.INT64


def network(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, tuple[int, Sequence[Any]]],
    outputs: dict[str, tuple[int, Sequence[Any]]],
    constants: dict[str, np.ndarray] | None = None,
    opset: int = 20,
) -> bytes:
    """An ONNX model: by name element type and shape."""
    infos = [[helper.make_tensor_value_info(name, *of) for name, of in some.items()] for some in (inputs, outputs)]
    tensors = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    graph = helper.make_graph(list(nodes), "small", *infos, tensors)
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


def doubling(rows: Any = "rows", kind: int = FP32) -> bytes:
    """y = x + x of (rows, 4)."""
    node = helper.make_node("Add", ["x", "x"], ["y"], name="twice")
    return network([node], {"x": (kind, (rows, 4))}, {"y": (kind, (rows, 4))})


def logger(trt: Any) -> Any:
    """One that keeps what it is told in `lines`."""

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            self.lines.append(f"{severity.name} {msg}")

    return Logger()


class Workshop:
    """A builder with all that goes with it, one attribute each, to be misused."""

    def __init__(self, trt: Any, typed: bool = True):
        self.trt, self.log = trt, logger(trt)
        self.builder = trt.Builder(self.log)
        flag = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        self.network = self.builder.create_network(flag if typed else 0)
        self.parser = trt.OnnxParser(self.network, self.log)
        self.config = self.builder.create_builder_config()

    @property
    def said(self) -> str:
        """All of the log."""
        return "\n".join(self.log.lines)

    def add_profile(self, **shapes: Sequence[Sequence[int]]) -> int:
        """By input its smallest, usual and largest shape."""
        profile = self.builder.create_optimization_profile()
        for name, three in shapes.items():
            profile.set_shape(name, *three)
        return self.config.add_optimization_profile(profile)

    def plan(self, model: bytes, *profiles: dict[str, Sequence[Sequence[int]]]) -> bytes | None:
        """Parse and build."""
        if not self.parser.parse(model):
            return None
        for shapes in profiles:
            self.add_profile(**shapes)
        built = self.builder.build_serialized_network(self.network, self.config)
        return None if built is None else bytes(built)


def same(*shape: int) -> tuple[tuple[int, ...], ...]:
    """A shape as smallest, usual and largest."""
    return shape, shape, shape


class Desk:
    """A context over a plan, a stream, and device memory for it."""

    def __init__(self, double: SimpleNamespace, plan: bytes, strategy: str = "STATIC"):
        self.trt, self.log = double.trt, logger(double.trt)
        self.cuda = __import__("cuda.bindings.runtime", fromlist=["runtime"])
        self.runtime = self.trt.Runtime(self.log)
        self.engine = self.runtime.deserialize_cuda_engine(plan)
        strategies = self.trt.ExecutionContextAllocationStrategy
        self.context = self.engine.create_execution_context(getattr(strategies, strategy))
        self.stream = self.cuda.cudaStreamCreateWithFlags(1)[1]
        self.driver = double.driver

    @property
    def said(self) -> str:
        """All of the log."""
        return "\n".join(self.log.lines)

    def device(self, size: int = 4096) -> int:
        """New memory."""
        return self.cuda.cudaMalloc(size)[1]

    def pinned(self, size: int = 4096) -> int:
        """New memory of the host."""
        return self.cuda.cudaHostAlloc(size, 0)[1]

    def array(self, address: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Values at an address, as they are now."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return self.driver.memory.view(address, size).view(dtype).reshape(shape)

    def bind(self, **addresses: int) -> bool:
        """Addresses by name."""
        return all(self.context.set_tensor_address(name, address) for name, address in addresses.items())

    def run(self) -> bool:
        """Queue it."""
        return self.context.execute_async_v3(int(self.stream))

    def wait(self) -> None:
        """Until all is done."""
        assert self.cuda.cudaStreamSynchronize(self.stream) == (0,)


def ready(desk: Desk, rows: int = 2, profile: int = 0) -> tuple[int, int]:
    """Everything set: addresses of x and y, x being ones."""
    x, y = desk.device(), desk.device()
    assert desk.context.set_optimization_profile_async(profile, int(desk.stream))
    assert desk.context.set_input_shape("x", (rows, 4)) and desk.bind(x=x, y=y)
    desk.array(x, (rows, 4), np.float32)[...] = 1
    return x, y
