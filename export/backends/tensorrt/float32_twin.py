"""A strongly typed graph with float32 arithmetic on the same weights: what ONNX Runtime can check of a float16 one.

Its own float16 arithmetic on a CPU rounds and underflows in other places than a GPU's, which sums in float32. So
float16 weights keep their values and are cast up where they are used, everything else is computed in float32, and
whether values would have left float16's range is looked at apart (`run.WatchedGraph`).
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mobilevlm.engines.stages import ATTENTION_MASK

HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT
WIDE = ".float32"  # ends the name of a weight that was cast up


def half_tensors(model: onnx.ModelProto) -> list[str]:
    """Returns the names of the float16 values that a graph computes; those of constants, and of the mask, are known."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    found = {value.name for value in (*inferred.value_info, *inferred.output) if _kind(value) == HALF}
    constant = {tensor.name for tensor in model.graph.initializer}
    made = []
    for node in model.graph.node:
        if set(filter(None, node.input)) <= constant:
            constant |= set(node.output)
        elif ATTENTION_MASK not in node.input or node.op_type != "Add":
            made += [name for name in node.output if name in found]
    return made


def external_files(model: onnx.ModelProto) -> set[str]:
    """Returns the names of the files beside a graph that its weights are in."""
    entries = (entry for tensor in model.graph.initializer for entry in tensor.external_data)
    return {entry.value for entry in entries if entry.key == "location"}


def in_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copies a graph with float32 for float16; large weights stay in their file."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        if _kind(value) == HALF:
            value.type.tensor_type.elem_type = FLOAT
    cast = {}
    for tensor in graph.initializer:
        if tensor.data_type != HALF:
            continue
        if tensor.data_location == TensorProto.EXTERNAL:
            cast[tensor.name] = tensor.name + WIDE
        else:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    nodes = []
    for node in graph.node:
        for name in node.input:
            if cast.get(name):  # right before its first use, so that it is in memory no longer than needed
                nodes.append(helper.make_node("Cast", [name], [cast[name]], name=cast[name], to=FLOAT))
        node.input[:] = [name + WIDE if name in cast else name for name in node.input]
        cast |= {name.removesuffix(WIDE): "" for name in node.input if name.endswith(WIDE)}
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == HALF:
                attribute.i = FLOAT
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return result


def _kind(value: onnx.ValueInfoProto) -> int:
    return value.type.tensor_type.elem_type
