"""Which nodes ONNX Runtime's XNNPACK provider takes: its source's rules, as data.

Read from microsoft/onnxruntime, onnxruntime/core/providers/xnnpack: the list in detail/node_support_checker.cc, and
`IsOnnxNodeSupported` of math/gemm.cc, math/matmul.cc, math/softmax.cc, nn/conv_base.cc, nn/max_pool.cc and
nn/average_pool.cc. Left out is what no stage here has: `Resize`, `ConvTranspose`, operators between quantising and
dequantising ones, and `Relu` or `Clip` behind a convolution, which it fuses with that.
https://onnxruntime.ai/docs/execution-providers/Xnnpack-ExecutionProvider.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from onnx import TensorProto

FLOAT, FLOAT16, UINT8, INT8 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8, TensorProto.INT8
PADDINGS = ("NOTSET", "VALID", "SAME_UPPER")  # `IsPaddingTypeSupported` of detail/utils.cc


@dataclass(frozen=True)
class Value:
    """Input of a node: a type of `TensorProto`, sizes (None where one is not known), and whether it is constant."""

    dtype: int
    shape: tuple[int | None, ...]
    constant: bool = False


@dataclass(frozen=True)
class Operation:
    """A node as the rules see it.

    Attributes:
        op_type: the operator; with its domain in front unless it is ONNX's own.
        opset: of ONNX's operators.
        inputs: None for one that is left out.
        attributes: those that are given.
        outputs: those that are used.
    """

    op_type: str
    opset: int
    inputs: Sequence[Value | None]
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: Sequence[Value] = ()

    def input(self, index: int) -> Value | None:
        """Returns an input; None where the node has none there."""
        return self.inputs[index] if index < len(self.inputs) else None

    def required(self, index: int) -> Value:
        """Returns an input that the operator cannot do without.

        Raises:
            LookupError: the node lacks it.
        """
        found = self.input(index)
        if found is None:
            raise LookupError(f"{self.op_type} has no input {index}")
        return found


# What has to be true, and what to say where it is not.
Rule = tuple[Callable[[Operation], bool], str]


def _types(*allowed: int) -> Rule:
    return lambda node: node.required(0).dtype in allowed, "its values are of another type"


def _constant(index: int, what: str) -> Rule:
    def is_constant(node: Operation) -> bool:
        found = node.input(index)
        return found is None or found.constant

    return is_constant, f"its {what} is not constant"


def _known(sizes: Sequence[int | None]) -> bool:
    return all(sizes)


def _is_padded_as_xnnpack_can(node: Operation) -> bool:
    return "pads" in node.attributes or node.attributes.get("auto_pad", "NOTSET") in PADDINGS


def _pools_more_than_one(node: Operation) -> bool:
    kernel = list(node.attributes["kernel_shape"])
    return len(kernel) == 2 and kernel != [1, 1]


IMAGE: tuple[Rule, ...] = (
    (lambda node: len(node.required(0).shape) == 4, "its input has not four dimensions"),
    (lambda node: _known(node.required(0).shape[1:]), "its channels, height or width are not known beforehand"),
)
POOL: tuple[Rule, ...] = (
    *IMAGE,
    (lambda node: not node.attributes.get("ceil_mode"), "its size is rounded up"),
    (lambda node: node.attributes.get("auto_pad", "NOTSET") in PADDINGS, "its padding is of another kind"),
    (_pools_more_than_one, "its window is not of two dimensions, or a single value"),
)
RULES: dict[str, tuple[Rule, ...]] = {
    "MatMul": (
        _types(FLOAT, FLOAT16),
        (lambda node: len(node.required(0).shape) <= 2, "it has more than two dimensions"),
        (lambda node: _known(node.required(0).shape), "its rows are not known beforehand"),
        (lambda node: len(node.required(1).shape) <= 2, "its second matrix has more than two dimensions"),
        _constant(1, "second matrix"),
    ),
    "Gemm": (
        (lambda node: node.attributes.get("alpha", 1.0) == node.attributes.get("beta", 1.0) == 1, "it scales"),
        _types(FLOAT, FLOAT16),
        _constant(1, "second matrix"),
        _constant(2, "bias"),
        (
            lambda node: all(len(one.shape) <= 2 for one in node.inputs if one),
            "it has more than two dimensions",
        ),
        (lambda node: node.input(2) is not None, "it has no bias"),
        (lambda node: node.required(2).shape[0] in node.required(1).shape, "its bias is not of its outputs' size"),
    ),
    "Conv": (
        (lambda node: node.opset >= 11, "its opset is below 11"),
        *IMAGE,
        _types(FLOAT, UINT8, INT8),
        _constant(1, "kernel"),
        (lambda node: len(node.required(1).shape) == 4, "its kernel has not four dimensions"),
        _constant(2, "bias"),
        (_is_padded_as_xnnpack_can, "its padding is of another kind"),
    ),
    "MaxPool": (
        (lambda node: node.opset >= 8, "its opset is below 8"),
        _types(FLOAT, UINT8, INT8),
        *POOL,
        (lambda node: len(node.outputs) < 2, "it hands out where the largest values were"),
    ),
    "AveragePool": (
        _types(FLOAT, UINT8),
        *POOL,
        (lambda node: not node.attributes.get("count_include_pad"), "it counts padding"),
    ),
    "Softmax": (
        _types(FLOAT, UINT8),
        (
            lambda node: node.opset < 13 or node.attributes.get("axis", -1) in (-1, len(node.required(0).shape) - 1),
            "it is not over the last dimension",
        ),
        (lambda node: node.opset < 13 or _known(node.required(0).shape[-1:]), "its last size is not known beforehand"),
    ),
}


def reason_to_stay(node: Operation) -> str:
    """Returns why a node stays on the CPU provider; empty where XNNPACK takes it."""
    if node.op_type not in RULES:
        return "no kernel"
    return next((reason for holds, reason in RULES[node.op_type] if not holds(node)), "")
