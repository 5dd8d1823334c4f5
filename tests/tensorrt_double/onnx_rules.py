"""What the ONNX parser and a strongly typed network of each TensorRT version take, checked on the graph."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from .names import number

TYPES = {
    TensorProto.FLOAT: "FP32",
    TensorProto.FLOAT16: "FP16",
    TensorProto.BFLOAT16: "BF16",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.BOOL: "BOOL",
    TensorProto.INT8: "INT8",
    TensorProto.INT4: "INT4",
    TensorProto.UINT8: "UINT8",
}
# Operands that have one type, by their places; None for all.
ALIKE: dict[str, tuple[int, ...] | None] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "MatMul", "Gemm", "Concat", "Min", "Max", "Equal", "Less"), None),
    **dict.fromkeys(("Greater", "LayerNormalization", "RMSNormalization", "Conv", "PRelu"), None),
    "Where": (1, 2),
    "Attention": (0, 1, 2),
    "RotaryEmbedding": (0, 1, 2),
}
# Operands that are shapes: what reaches them would have to be on the host.
SHAPES = {
    **{name: (1,) for name in ("Reshape", "Expand", "Tile", "Pad", "TopK", "Unsqueeze", "Squeeze", "OneHot", "Split")},
    "Slice": (1, 2, 3, 4),
    "Range": (0, 1, 2),
    "ConstantOfShape": (0,),
    "Resize": (1, 2, 3),
}
NODE_NAME = re.compile(r"node name: ([^)]+)\)")  # as onnx writes it


@cache
def operators() -> dict[str, Any]:
    """`ops.json`."""
    return json.loads(Path(__file__).with_name("ops.json").read_text())["ops"]


def _types_of(operator: str, version: str) -> list[str] | None:
    """What types an operator takes; None when the parser does not know it."""
    known = operators().get(operator)
    here = number(version)
    if known is None or ("since" in known and here < number(known["since"])):
        return None
    column = "11.1" if here >= (11, 0) else "10.16" if here >= (10, 14) else "10.3"
    return known["types"].get(column)


def problems(model: onnx.ModelProto, version: str) -> list[str]:
    """What the parser refuses, with the node's name."""
    found = []
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    nodes = model.graph.node
    blocked = any(_attribute(node, "block_size") for node in nodes if node.op_type == "DequantizeLinear")
    newest = (21 if blocked else 20) if number(version) < (10, 15) else 24
    if opset > newest:
        found.append(f"opset {opset} is newer than {newest}, the newest of the parser of TensorRT {version}")
    try:
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except onnx.shape_inference.InferenceError as error:
        text = str(error).splitlines()[0]
        name = NODE_NAME.search(text)
        return [*found, f"{f'node {name[1]}: ' if name else ''}shape inference failed: {text}"]
    types = {value.name: value.type.tensor_type.elem_type for value in _values(inferred.graph)}
    types |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for node in nodes:
        found += _node_problems(node, types, version)
    return found + _scale_problems(model, version)


def _values(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    return [*graph.input, *graph.output, *graph.value_info]


def _attribute(node: onnx.NodeProto, name: str) -> Any:
    return next((onnx.helper.get_attribute_value(one) for one in node.attribute if one.name == name), None)


def _node_problems(node: onnx.NodeProto, types: dict[str, int], version: str) -> list[str]:
    where = f"node {node.name or node.output[0]} ({node.op_type})"
    allowed = _types_of(node.op_type, version)
    if allowed is None or node.domain not in ("", "ai.onnx"):
        return [f"{where}: Plugin not found, are the plugin name, version, and namespace correct?"]
    operands = [(place, types[name]) for place, name in enumerate(node.input) if name]
    found = []
    if operands and TYPES.get(operands[0][1]) not in allowed and node.op_type not in ("Constant", "Shape"):
        found.append(f"{where}: type {TYPES.get(operands[0][1])} is not among {', '.join(allowed)}")
    if node.op_type in ALIKE:
        places = ALIKE[node.op_type]
        kinds = {TYPES.get(kind) for place, kind in operands if places is None or place in places}
        if len(kinds) > 1:
            found.append(f"{where}: strongly typed networks do not mix {' and '.join(sorted(map(str, kinds)))}")
    if node.op_type == "QuantizeLinear" and operands[0][1] != operands[1][1]:
        found.append(f"{where}: scale and data have different types")
    return found


def _scale_problems(model: onnx.ModelProto, version: str) -> list[str]:
    """Of quantised tensors: symmetric; activations have one scale, weights one for a channel or, of int4, a block."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    found = []
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        where = f"node {node.name} ({node.op_type})"
        scale, data = constants.get(node.input[1]), constants.get(node.input[0])
        if scale is None:
            found.append(f"{where}: its scale is no constant")
            continue
        if node.op_type == "DequantizeLinear" and number(version) < (10, 15) and _attribute(node, "output_dtype"):
            found.append(f"{where}: output_dtype is read as the quantised type")
        if len(node.input) > 2 and node.input[2] and _has_nonzero(constants.get(node.input[2])):
            found.append(f"{where}: its zero point is not 0")
        block = _attribute(node, "block_size") or 0
        if block and (data is None or data.data_type != TensorProto.INT4 or block not in (64, 128)):
            found.append(f"{where}: blocks are of 64 or 128 int4 weights")
        elif block and (len(scale.dims) != len(data.dims) or data.dims[-1] % 2):
            found.append(f"{where}: {list(scale.dims)} scales do not fit int4 weights of {list(data.dims)}")
        elif not block and scale.dims and data is None and list(scale.dims) != [1]:
            found.append(f"{where}: only weights have a scale for each channel")
        elif not block and scale.dims and data is not None and _attribute(node, "axis") is None:
            found.append(f"{where}: its axis is not given, and parsers differ in which they take")
    return found


def _has_nonzero(tensor: onnx.TensorProto | None) -> bool:
    if tensor is None:
        return True
    if tensor.external_data:
        return False  # large ones are not read here
    return bool(numpy_helper.to_array(tensor).astype(np.float32).any())


def shape_input_problems(graph: onnx.GraphProto) -> list[str]:
    """Inputs whose values are sizes inside: the parser takes them, and the builder wants values of every profile."""
    origin = {value.name: value.name for value in graph.input}
    found = []
    for node in graph.node:
        sources = [origin[name] for name in node.input if name in origin]
        for place in SHAPES.get(node.op_type, ()):
            if place < len(node.input) and node.input[place] in origin:
                source = origin[node.input[place]]
                found.append(f"Optimization profile 0 is missing values for shape input tensor {source} ({node.name})")
        if node.op_type not in ("Shape", "Size") and sources:
            origin |= dict.fromkeys(node.output, sources[0])
    return found
