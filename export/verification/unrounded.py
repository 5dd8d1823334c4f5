"""Removes the operators that round a graph's values: what is left is float32 arithmetic.

Rounding hides what is small beside it: in graphs of int8 values, half of RoPE may be missing and the answer differ by
no more than rounding makes it differ. Without rounding, a graph is PyTorch's on the same weights to float32's own bits.
"""

from __future__ import annotations

import onnx

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


def without_rounding(model: onnx.ModelProto) -> None:
    """Removes the rounding of values between operators from a graph, in place; stored weights stay quantised."""
    rounded = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == QUANTIZE}
    exact = {
        node.output[0]: rounded[node.input[0]]
        for node in model.graph.node
        if node.op_type == DEQUANTIZE and node.input[0] in rounded
    }
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = exact.get(name, name)
