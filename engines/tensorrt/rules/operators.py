"""Operators of our graphs, with the forms that TensorRT's parser and strongly typed networks take.

From onnx-tensorrt's docs/operators.md and importer source (10.1 for 10.3, 10.16, 11.1) and NvInfer.h, as far as our
graphs go: the forms of operators that are missing here were not looked up.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...onnx_wire import BFLOAT16, BOOL, FLOAT, FLOAT16, INT4, INT8, INT32, INT64

OLDEST = (10, 3)
FLOATS = (FLOAT, FLOAT16, BFLOAT16)
NUMBERS = (*FLOATS, INT32, INT64)
ANY = (*NUMBERS, BOOL)


@dataclass(frozen=True)
class Operator:
    """Forms of an operator that TensorRT takes.

    Attributes:
        types: data types that its first operand may have.
        alike: number of operands, from the first, that must have one data type; 0 for all of them.
        shapes: indices of operands that TensorRT must know on the host before anything runs.
        constant: indices of operands that must be weights.
        since: version of TensorRT that has it.
    """

    types: tuple[int, ...]
    alike: int = 1
    shapes: tuple[int, ...] = ()
    constant: tuple[int, ...] = ()
    since: tuple[int, int] = OLDEST


OPERATORS = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), Operator(NUMBERS, alike=0)),
    **dict.fromkeys(("MatMul", "Conv", "LayerNormalization"), Operator(FLOATS, alike=0)),
    **dict.fromkeys(("Gelu", "HardSigmoid", "Relu", "Sigmoid", "Softmax", "Sqrt"), Operator(FLOATS)),
    "HardSwish": Operator((FLOAT, FLOAT16)),  # its importer refuses bfloat16, whatever the table says
    "Cast": Operator(ANY),
    "Concat": Operator(ANY, alike=0),
    "Gather": Operator(ANY),
    "Identity": Operator(ANY),
    "Shape": Operator(ANY),
    "TopK": Operator(NUMBERS, constant=(1,)),
    "Transpose": Operator(ANY),
    "ReduceMean": Operator(NUMBERS, constant=(1,)),
    "Reshape": Operator(ANY, shapes=(1,)),
    "Slice": Operator(ANY, shapes=(1, 2, 3, 4)),
    "QuantizeLinear": Operator(FLOATS, alike=2, constant=(1, 2)),
    "DequantizeLinear": Operator((INT8, INT4), constant=(1, 2)),
    "Attention": Operator(FLOATS, alike=4, since=(10, 14)),
    "RMSNormalization": Operator(FLOATS, alike=0, since=(10, 15)),
    "RotaryEmbedding": Operator(FLOATS, alike=3, since=(10, 15)),
    "TensorScatter": Operator(FLOATS, alike=2, since=(10, 15)),
}

# Version of TensorRT to the newest opset that it documents, newest first.
OPSETS = (((10, 15), 24), (OLDEST, 20))
# With int4 weights in blocks, which its parser reads although it documents less.
BLOCK_OPSET = 21


def newest_opset(version: tuple[int, ...], blocks: bool) -> int:
    """Returns the newest opset that a version of TensorRT reads; 0 for a version that is too old.

    Args:
        version: of TensorRT, major and minor.
        blocks: whether weights have scales for blocks.
    """
    documented = next((opset for since, opset in OPSETS if version >= since), 0)
    return max(documented, BLOCK_OPSET) if blocks and documented else documented


def known_operators(version: tuple[int, ...]) -> dict[str, Operator]:
    """Returns the operators that a version of TensorRT has, by name."""
    return {name: one for name, one in OPERATORS.items() if version >= one.since}
