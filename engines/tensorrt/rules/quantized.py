"""Rules for QuantizeLinear and DequantizeLinear: where they may stand, and which scales they may have.

Only linear layers read quantised values. Sums of the residual stream in int8 cost a ViT on an Orin 80 points.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...onnx_wire import INT4, INT8
from .graph import GraphView, Violation, attribute, label, operand

# The axis of a weight that is its outputs', and the weight's index among the operands.
OUTPUT_AXIS = {"MatMul": 1, "Conv": 0}
WEIGHT_PLACE = 1
BLOCKS = (64, 128)


def quantized_violations(view: GraphView, version: tuple[int, ...]) -> Iterator[Violation]:
    """Finds quantised values that TensorRT refuses, cannot fuse, or that are known to cost accuracy.

    Args:
        view: the graph.
        version: of TensorRT, major and minor.
    """
    for node in view.nodes:
        if node.op_type == "QuantizeLinear":
            yield from _quantized_values(view, node)
        elif node.op_type == "DequantizeLinear":
            if attribute(node, "output_dtype") is not None and version < (10, 15):
                yield Violation(
                    label(node),
                    "output_dtype is read as the type of the quantised values",
                    "leave it out: the scale's type counts",
                )
            if node.input[0] in view.weights:
                yield from _quantized_weight(view, node)
        else:
            continue
        yield from _parameters(view, node)


def _parameters(view: GraphView, node: Any) -> Iterator[Violation]:
    zero, scale = operand(node, 2), view.inline(node.input[1])
    zeros = view.inline(zero) if zero else np.zeros(1)
    if zeros is None or zeros.any():
        yield Violation(label(node), f"its zero point {zero} is not known to be zero", "quantise symmetrically")
    elif zero and zeros.dtype != np.int8:
        yield Violation(
            label(node), f"its zero point is {zeros.dtype}", "write int8: unsigned values are read as signed"
        )
    if scale is not None and not (np.isfinite(scale) & (scale > 0)).all():
        yield Violation(label(node), "a scale is not above zero", "a row of zeros gets any scale that is")


def _quantized_values(view: GraphView, node: Any) -> Iterator[Violation]:
    if view.shapes.get(node.input[1], ()) not in ((), (1,)):
        yield Violation(label(node), "values have a scale for each channel", "one for all: only weights may have more")
    if node.input[0] in view.weights:
        yield Violation(label(node), "a weight is quantised at run time", "store it quantised")
    for after in view.readers.get(node.output[0], []):
        if after.op_type != "DequantizeLinear":
            yield Violation(label(after), "reads quantised values", "a DequantizeLinear belongs between")
        elif list(after.input[1:]) != list(node.input[1:]):
            yield Violation(label(after), "dequantises with another scale than was quantised with", "use the same")
        else:
            yield from _readers(view, after)


def _readers(view: GraphView, decoded: Any) -> Iterator[Violation]:
    """Finds readers without int8 kernels, which only layers with int8 weights have."""
    for reader in view.readers.get(decoded.output[0], []):
        weight = operand(reader, WEIGHT_PLACE)
        coded = view.maker(weight) == "DequantizeLinear" and view.makers[weight].input[0] in view.weights
        if reader.op_type not in OUTPUT_AXIS or weight == decoded.output[0] or not coded:
            yield Violation(
                label(reader), "reads int8 values and is no layer with int8 weights", "leave it float16: only those pay"
            )


def _quantized_weight(view: GraphView, node: Any) -> Iterator[Violation]:
    weight = view.weights[node.input[0]]
    written = view.shapes.get(node.input[1], ())
    scale = tuple(size for size in written if isinstance(size, int))
    if scale != written:
        yield Violation(label(node), f"its scales have a dynamic shape {written}", "store them")
        return
    readers = view.readers.get(node.output[0], [])
    for reader in readers:
        if reader.op_type == "Cast":
            yield Violation(label(reader), "casts dequantised weights", "give the scales the type that is needed")
        elif reader.op_type not in OUTPUT_AXIS or operand(reader, WEIGHT_PLACE) != node.output[0]:
            yield Violation(label(reader), "reads dequantised weights and is no linear layer", "store them as they are")
    axis, shape = attribute(node, "axis"), tuple(weight.dims)
    if scale and axis is None:
        yield Violation(label(node), "says no axis", "write it: parsers differ in the default")
        return
    if weight.data_type == INT4 and shape[-1] % 2:
        yield Violation(label(node), f"int4 weights {shape} have an odd last size", "two are in a byte: make it even")
    if len(scale) == len(shape) and len(shape) > 1:
        yield from _blocks(node, weight, axis, scale)
    elif weight.data_type == INT4:
        yield Violation(label(node), "int4 weights have no blocks", "scales of blocks have the weight's rank")
    elif scale:
        for reader in readers:
            wanted = OUTPUT_AXIS.get(reader.op_type, axis)
            if axis != wanted or scale != (shape[axis],):
                yield Violation(
                    label(node), f"{scale} scales along axis {axis} of {shape}", f"one for each output: axis {wanted}"
                )


def _blocks(node: Any, weight: Any, axis: int, scale: tuple[int, ...]) -> Iterator[Violation]:
    shape = tuple(weight.dims)
    if weight.data_type == INT8:
        yield Violation(label(node), "int8 weights have scales for blocks", "only int4 may; one for each output here")
    size, rest = divmod(shape[axis], scale[axis])
    others = [place for place in range(len(shape)) if place != axis]
    if axis < len(shape) - 2 or rest or any(scale[place] != shape[place] for place in others):
        yield Violation(label(node), f"scales {scale} do not cut {shape} along axis {axis}", "one of the last two axes")
    elif size not in BLOCKS:
        yield Violation(label(node), f"blocks of {size}", f"TensorRT has kernels for {' and '.join(map(str, BLOCKS))}")
