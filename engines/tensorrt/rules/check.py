"""Checks a graph against the rules of TensorRT's versions, before it is copied to a board.

Without the board a graph cannot be compiled; the rules of TensorRT's parser and builder are known, and so are graphs
that they accept and compute wrongly. `check` reads an ONNX model's fields; shapes of intermediate values are checked
where the model has them (`onnx.shape_inference`).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from ...stages import ATTENTION_MASK
from .graph import EXTERNAL, GraphView, Violation, attribute, label, operand
from .operators import OPSETS, known_operators, newest_opset
from .quantized import quantized_violations
from .types import type_violations

HIGHEST_RANK = 8
HIGHEST_COUNT = 3840  # of TopK
LARGEST_PROTO = 2**31 - 1
ADDRESS_ALIGNMENT = 256  # bytes, of every input and output
ITEM_BYTES = {1: 4, 10: 2, 16: 2}
# Operators whose output depends on the shapes of their inputs only.
SIZES = ("Shape",)


def check(model: Any, version: str) -> list[Violation]:
    """Finds what a version of TensorRT would refuse or compute wrongly.

    Args:
        model: an onnx.ModelProto, its large weights left in their file.
        version: of TensorRT, `10.3` or longer.

    Returns:
        Violations; none for a graph that it takes.
    """
    numbers, view = tuple(map(int, version.split(".")[:2])), GraphView(model)
    operators = known_operators(numbers)
    found = [*_opset(view, numbers), *type_violations(view, operators), *quantized_violations(view, numbers)]
    found += [*_host_tensors(view, operators), *_sizes(view), *_weights(view), *_interface(view)]
    for node in view.nodes:
        if node.op_type == "Attention":
            found += _attention(view, node)
        elif node.op_type == "TensorScatter":
            found += _cache_update(view, node)
        elif node.op_type == "TopK":
            found += _largest(view, node)
    return found


def _opset(view: GraphView, version: tuple[int, ...]) -> Iterator[Violation]:
    blocks = any(node.op_type == "DequantizeLinear" and attribute(node, "block_size") for node in view.nodes)
    newest = newest_opset(version, blocks)
    for entry in view.model.opset_import:
        if entry.domain not in ("", "ai.onnx"):
            yield Violation(
                f"opset {entry.domain}", "names a domain that TensorRT does not have", "name none but onnx's"
            )
        elif entry.version > newest:
            known = f"TensorRT {version[0]}.{version[1]} reads up to {newest}" if newest else "10.3 is the oldest"
            yield Violation(f"opset {entry.version}", known, f"write opset {newest or OPSETS[-1][1]}")


def _host_tensors(view: GraphView, operators: dict[str, Any]) -> Iterator[Violation]:
    """Finds inputs whose values would have to be known before anything runs, and operands that have to be weights."""
    carried = {name: name for name in view.inputs}  # value to the input that is in it
    for node in view.nodes:
        known = operators.get(node.op_type)
        for place in known.shapes if known else ():
            if operand(node, place) in carried:
                yield Violation(
                    label(node),
                    f"its sizes come from the values of input {carried[operand(node, place)]}",
                    "take them from the size of an input (Shape), or let the values enter by Gather, Add or a mask",
                )
        for place in known.constant if known else ():
            if operand(node, place) and operand(node, place) not in view.weights:
                yield Violation(label(node), f"{operand(node, place)} is computed", "make it a constant")
        if node.op_type not in SIZES:
            source = next((carried[name] for name in node.input if name in carried), None)
            carried |= dict.fromkeys(node.output, source) if source else {}


def _sizes(view: GraphView) -> Iterator[Violation]:
    for name, shape in view.shapes.items():
        if len(shape) > HIGHEST_RANK:
            yield Violation(name, f"has {len(shape)} dimensions", f"TensorRT ends at {HIGHEST_RANK}")
        if 0 in shape:
            yield Violation(name, f"is empty: {shape}", "pad it and mask what is not there: empty ones crashed builds")
        if name in view.inputs and "" in shape:
            yield Violation(f"input {name}", f"has a dimension of neither size nor name: {shape}", "name it")


def _weights(view: GraphView) -> Iterator[Violation]:
    if view.model.ByteSize() > LARGEST_PROTO:
        yield Violation("the model", "is more than 2 GB of protobuf", "put weights into an external file")
    for name, tensor in view.weights.items():
        value = view.inline(name)
        if value is not None and np.issubdtype(value.dtype, np.floating) and not np.isfinite(value).all():
            yield Violation(f"weight {name}", "is not finite: masks of -inf become NaN", "use a finite number, as -1e4")
        if tensor.data_location == EXTERNAL:
            where = {entry.key: entry.value for entry in tensor.external_data}
            file = where.get("location", "")
            if len(PurePosixPath(file).parts) != 1 or file in ("", ".", "..") or "\\" in file:
                yield Violation(
                    f"weight {name}", f"lies in {file!r}", "put the file beside the graph, by its bare name"
                )
            if "offset" not in where or "length" not in where:
                yield Violation(f"weight {name}", "does not say where in its file it lies", "write offset and length")


def _interface(view: GraphView) -> Iterator[Violation]:
    for name in view.outputs:
        if name in view.inputs or view.maker(name) == "Identity" and view.makers[name].input[0] in view.inputs:
            yield Violation(f"output {name}", "is an input: they would be at one address", "hand out what is computed")
    for name in view.inputs:
        if name not in view.readers:
            yield Violation(f"input {name}", "is read by nothing: an engine would not have it", "leave it out")
    for reader in view.readers.get(ATTENTION_MASK, []):
        if reader.op_type not in ("Add", "Attention"):
            yield Violation(label(reader), "reads the mask", "it is added to scores, nothing else")
    for node in view.nodes:
        if node.op_type in ("Mul", "Div") and any(_is_score(view, name) for name in node.input):
            yield Violation(label(node), "scales scores", "scale queries before the product: kernels expect that")


def _is_score(view: GraphView, name: str) -> bool:
    """Tells whether a matrix product's result goes on to a softmax, perhaps joined or masked before."""
    if view.maker(name) not in ("MatMul", "Concat", "Reshape"):
        return False
    ahead = [node for reader in view.readers.get(name, []) for node in view.readers.get(reader.output[0], [])]
    return any(node.op_type == "Softmax" for node in ahead)


def _attention(view: GraphView, node: Any) -> Iterator[Violation]:
    where = label(node)
    if any(operand(node, place) for place in range(4, 7)) or len(list(filter(None, node.output))) > 1:
        yield Violation(where, "has a past or a second output", "update the cache by TensorScatter")
    if not operand(node, 3):
        yield Violation(where, "has no mask", "its own causal begins at the cache's first row: write the mask out")
    for name in ("is_causal", "softcap", "qk_matmul_output_mode"):
        if attribute(node, name):
            yield Violation(where, f"{name} is ignored or excludes a mask", "leave it out")
    if not attribute(node, "TRT_decomposable"):
        yield Violation(where, "fails to build where there is no kernel for it", "write TRT_decomposable=1")
    for name in node.input[:4]:
        if len(view.shapes.get(name, range(4))) != 4:
            yield Violation(where, f"{name} has not 4 dimensions: {view.shapes[name]}", "(batch, heads, rows, size)")


def _largest(view: GraphView, node: Any) -> Iterator[Violation]:
    count = view.inline(operand(node, 1))
    if count is not None and count.max() > HIGHEST_COUNT:
        yield Violation(label(node), f"sorts out {count.max()}", f"TensorRT ends at {HIGHEST_COUNT}")


def _cache_update(view: GraphView, node: Any) -> Iterator[Violation]:
    where, cache, out = label(node), node.input[0], node.output[0]
    shape = view.shapes.get(cache, ())
    if cache not in view.inputs or out not in view.outputs:
        yield Violation(where, "its cache is no input or its result no output", "they are one buffer of the caller's")
        return
    fixed = [size for size in shape if isinstance(size, int)]
    if len(shape) != 4 or len(fixed) != 4:
        yield Violation(where, f"cache {cache} is {shape}", "4 dimensions of known sizes")
    else:
        size = prod(fixed) * ITEM_BYTES.get(view.inputs[cache].type.tensor_type.elem_type, 1)
        if size % ADDRESS_ALIGNMENT:
            yield Violation(
                where,
                f"cache {cache} has {size} bytes: the next would begin at no multiple of 256",
                "round its rows up",
            )
    if attribute(node, "axis") not in (-2, 2) or attribute(node, "mode") not in (None, "linear"):
        yield Violation(where, "writes along another axis than the rows, or around the end", "axis=-2, mode linear")
    if len(view.readers[cache]) > 1:
        yield Violation(where, f"{cache} is read by others, before or after it is written", "read the result instead")
