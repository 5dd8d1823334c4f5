"""ONNX models that are measured: one of a single product, and the bytes of a model's constants."""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np

from mobilevlm.engines.onnx_wire import (
    FLOAT,
    GRAPH_INITIALIZER,
    GRAPH_NODE,
    INT8,
    INT32,
    MODEL_GRAPH,
    NODE_INPUT,
    NODE_OPERATOR,
    UINT8,
    Value,
    as_message,
    as_number,
    fields,
    message,
    read_graph,
    repeated_numbers,
    text,
)

# By operator: type of x, of the weight, of y.
TYPES = {"MatMul": (FLOAT, FLOAT, FLOAT), "MatMulInteger": (UINT8, INT8, INT32)}
# Bytes of an element in memory while a CPU computes, by type: 10 is float16, which ONNX Runtime expands at loading.
BYTES = {FLOAT: 4.0, UINT8: 1.0, INT8: 1.0, INT32: 4.0, 7: 8.0, 9: 1.0, 10: 4.0, 11: 8.0, 16: 4.0, 21: 0.5, 22: 0.5}
IR_VERSION, OPSET = 8, 17
TENSOR_DIMS, TENSOR_TYPE, TENSOR_NAME = 1, 2, 8  # fields of TensorProto


def matmul_model(op_type: str, rows: int, weight: np.ndarray) -> bytes:
    """Writes a model of one node, `y = x @ weight`, as ONNX Runtime takes it.

    Args:
        op_type: `MatMul`, all float32, or `MatMulInteger`, where x is uint8, `weight` int8 and y int32.
        rows: of x, which is (rows, K).
        weight: (K, N), a constant of the model.
    """
    x_type, weight_type, y_type = TYPES[op_type]
    inner, columns = weight.shape
    tensor = message((1, inner), (1, columns), (2, weight_type), (8, "weight"), (9, weight.tobytes()))
    node = message((1, "x"), (1, "weight"), (2, "y"), (4, op_type))
    graph = message(
        (1, node),
        (2, op_type),
        (5, tensor),
        (11, _value("x", x_type, rows, inner)),
        (12, _value("y", y_type, rows, columns)),
    )
    return message((1, IR_VERSION), (MODEL_GRAPH, graph), (8, message((1, ""), (2, OPSET))))


def weight_bytes(path: Path) -> int:
    """Returns the bytes of a model's constants while it computes; layouts stored for loading and padding do not count.

    The tables that `GroupQueryAttention` takes hold positions, of which a row is read: they do not count either.
    """
    sizes: dict[str, float] = {}
    tables: set[str] = set()
    for number, value in fields(read_graph(path)):
        if number == GRAPH_INITIALIZER:
            name, size = _constant(as_message(value))
            sizes[name] = size
        elif number == GRAPH_NODE:
            node = list(fields(as_message(value)))
            if any(field == NODE_OPERATOR and _is_text(one, b"GroupQueryAttention") for field, one in node):
                tables |= {text(one) for field, one in node if field == NODE_INPUT}
    return int(sum(size for name, size in sizes.items() if name not in tables))


def _constant(tensor: memoryview) -> tuple[str, float]:
    """Returns name and bytes in memory."""
    shape, name, kind = [], "", FLOAT
    for number, value in fields(tensor):
        if number == TENSOR_DIMS:
            shape += repeated_numbers(value)
        elif number == TENSOR_TYPE:
            kind = as_number(value)
        elif number == TENSOR_NAME:
            name = text(value)
    return name, prod(shape) * BYTES[kind]


def _is_text(value: Value, expected: bytes) -> bool:
    return not isinstance(value, int) and bytes(value) == expected


def _value(name: str, element: int, *shape: int) -> bytes:
    dimensions = message(*((1, message((1, size))) for size in shape))
    return message((1, name), (2, message((1, message((1, element), (2, dimensions))))))
