"""Look-ups by name in an ONNX graph, for the rules. Reads a ModelProto's fields and does not import onnx."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...onnx_wire import BFLOAT16, BOOL, FLOAT, FLOAT16, INT4, INT8, INT32, INT64, UINT8

NAMES = {FLOAT: "float32", UINT8: "uint8", INT8: "int8", INT32: "int32", INT64: "int64", BOOL: "bool"}
NAMES |= {FLOAT16: "float16", BFLOAT16: "bfloat16", INT4: "int4"}
NUMPY = {FLOAT: np.float32, INT8: np.int8, UINT8: np.uint8, INT32: np.int32, INT64: np.int64, FLOAT16: np.float16}
EXTERNAL = 1  # onnx.TensorProto.DataLocation


@dataclass(frozen=True)
class Violation:
    """A part of a graph that TensorRT would refuse, or compute wrongly.

    Attributes:
        node: the node, input, output or weight, by name.
        rule: what is wrong.
        remedy: change of the graph that helps.
    """

    node: str
    rule: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.node}: {self.rule}; {self.remedy}"


class GraphView:
    """The graph of a model, by name.

    Args:
        model: an onnx.ModelProto.

    Attributes:
        model, graph: the protos.
        nodes: in order.
        inputs, outputs: their ValueInfoProto by name.
        weights: initializers by name.
        makers: the node that computes a value, by the value's name.
        readers: nodes that read a value, by the value's name.
        shapes: of values whose shape is written down; a dynamic dimension is its name, "" without one.
    """

    def __init__(self, model: Any):
        self.model, self.graph = model, model.graph
        self.nodes = list(self.graph.node)
        self.weights = {tensor.name: tensor for tensor in self.graph.initializer}
        self.inputs = {value.name: value for value in self.graph.input}
        self.outputs = {value.name: value for value in self.graph.output}
        self.makers = {name: node for node in self.nodes for name in node.output if name}
        self.readers: dict[str, list[Any]] = {}
        for node in self.nodes:
            for name in filter(None, node.input):
                self.readers.setdefault(name, []).append(node)
        values = [*self.graph.value_info, *self.inputs.values(), *self.outputs.values()]
        self.shapes = {value.name: _shape(value) for value in values if value.type.tensor_type.HasField("shape")}
        self.shapes |= {name: tuple(tensor.dims) for name, tensor in self.weights.items()}

    def maker(self, name: str) -> str:
        """Returns the operator that computes a value; empty for inputs and weights."""
        return self.makers[name].op_type if name in self.makers else ""

    def inline(self, name: str) -> np.ndarray | None:
        """Returns a weight that is stored in the graph itself; None for any other value."""
        tensor = self.weights.get(name)
        if tensor is None or tensor.data_location == EXTERNAL or tensor.data_type not in NUMPY:
            return None
        dtype = NUMPY[tensor.data_type]
        if tensor.HasField("raw_data"):
            return np.frombuffer(tensor.raw_data, dtype).reshape(tuple(tensor.dims))
        if tensor.data_type == FLOAT16:
            return np.array(tensor.int32_data, np.uint16).view(np.float16).reshape(tuple(tensor.dims))
        written = [*tensor.float_data, *tensor.int32_data, *tensor.int64_data]
        return np.array(written, dtype).reshape(tuple(tensor.dims))


def label(node: Any) -> str:
    """Returns a node's name and operator, for messages."""
    return f"node {node.name or node.output[0]} ({node.op_type})"


def attribute(node: Any, name: str) -> Any:
    """Returns a number or text attribute; None where it is not written.

    Args:
        node: a NodeProto.
        name: of the attribute.
    """
    for one in node.attribute:
        if one.name == name:
            return one.s.decode() if one.s else one.f if one.f else one.i
    return None


def operand(node: Any, place: int) -> str:
    """Returns the name of a node's input; empty where it is left out.

    Args:
        node: a NodeProto.
        place: index of the input.
    """
    return node.input[place] if place < len(node.input) else ""


def _shape(value: Any) -> tuple[int | str, ...]:
    return tuple(
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in value.type.tensor_type.shape.dim
    )
