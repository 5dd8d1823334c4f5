"""Reads and writes the part of ONNX's file format (protobuf) that is needed on devices, which have no `onnx` package.

Field numbers and element types: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np

FLOAT, UINT8, INT8, INT32 = 1, 2, 3, 6
# Element types of x, weight and y of each operator.
TYPES = {"MatMul": (FLOAT, FLOAT, FLOAT), "MatMulInteger": (UINT8, INT8, INT32)}
# Bytes of an element in memory while a CPU computes: float16 (10) takes 4, ONNX Runtime expands it at loading.
BYTES = {FLOAT: 4.0, UINT8: 1.0, INT8: 1.0, INT32: 4.0, 7: 8.0, 9: 1.0, 10: 4.0, 11: 8.0, 16: 4.0, 21: 0.5, 22: 0.5}
IR_VERSION, OPSET = 8, 17
# Element types of the inputs and outputs of this project's graphs.
DTYPES: dict[int, type[np.generic]] = {FLOAT: np.float32, 7: np.int64, 10: np.float16}


def matmul_model(op_type: str, rows: int, weight: np.ndarray) -> bytes:
    """Serialises a model of one node, `y = x @ weight`.

    Args:
        op_type: `MatMul`, all float32, or `MatMulInteger`, where x is uint8, `weight` int8 and y int32.
        rows: number of rows of x, which is (rows, K).
        weight: (K, N), a constant of the model.
    """
    x_type, weight_type, y_type = TYPES[op_type]
    inner, columns = weight.shape
    tensor = _message((1, inner), (1, columns), (2, weight_type), (8, "weight"), (9, weight.tobytes()))
    node = _message((1, "x"), (1, "weight"), (2, "y"), (4, op_type))
    graph = _message(
        (1, node),
        (2, op_type),
        (5, tensor),
        (11, _value("x", x_type, rows, inner)),
        (12, _value("y", y_type, rows, columns)),
    )
    return _message((1, IR_VERSION), (7, graph), (8, _message((1, ""), (2, OPSET))))


def weight_bytes(path: Path) -> int:
    """Counts the bytes of a model's constants in memory while it computes.

    Layouts that are stored only for loading, and padding, are not counted. Position tables of `GroupQueryAttention` are
    left out: one row of them is read for a token.
    """
    sizes: dict[str, float] = {}
    tables: set[str] = set()
    for number, value in _submessages(_graph(path)):
        if number == 5:
            name, size = _constant(value)
            sizes[name] = size
        elif number == 1:
            node = list(_submessages(value))
            if any(field == 4 and bytes(text) == b"GroupQueryAttention" for field, text in node):
                tables |= {bytes(text).decode() for field, text in node if field == 1}
    return int(sum(size for name, size in sizes.items() if name not in tables))


def tensor_dtypes(path: Path) -> dict[str, type[np.generic]]:
    """Reads the dtypes of a model's inputs and outputs, by name; its weights are not read.

    Raises:
        KeyError: an element type that no graph of this project has.
    """
    found: dict[str, type[np.generic]] = {}
    for number, value in _submessages(_graph(path)):
        if number in (11, 12):  # input, output: a name, and a type that is a tensor's
            named = dict(_submessages(value))
            tensor = dict(_submessages(named[2]))[1]
            found[bytes(named[1]).decode()] = DTYPES[dict(_numbers(tensor))[1]]
    return found


def node_outputs(path: Path) -> dict[str, str]:
    """Maps the outputs of a model's nodes, in the graph's order, to the operators that compute them."""
    found: dict[str, str] = {}
    for number, value in _submessages(_graph(path)):
        if number == 1:
            node = list(_submessages(value))
            operator = next(bytes(text).decode() for field, text in node if field == 4)
            found |= {bytes(text).decode(): operator for field, text in node if field == 2}
    return found


def _graph(path: Path) -> memoryview:
    return dict(_submessages(memoryview(path.read_bytes())))[7]


def _constant(tensor: memoryview) -> tuple[str, float]:
    """Name of a constant and its bytes in memory."""
    shape: list[int] = []
    name, kind = "", FLOAT
    for number, value in _fields(tensor):
        if isinstance(value, int):
            if number == 1:  # one field for each dimension by some writers
                shape.append(value)
            elif number == 2:
                kind = value
        elif number == 1:  # all dimensions packed into one by others
            shape += _varints(value)
        elif number == 8:
            name = bytes(value).decode()
    return name, prod(shape) * BYTES[kind]


def _value(name: str, element: int, *shape: int) -> bytes:
    dimensions = _message(*((1, _message((1, size))) for size in shape))
    return _message((1, name), (2, _message((1, _message((1, element), (2, dimensions))))))


def _message(*fields: tuple[int, int | str | bytes]) -> bytes:
    """Serialises a message of numbered fields: numbers, texts, and messages or bytes."""
    parts = []
    for number, value in fields:
        if isinstance(value, int):
            parts += [_varint(number << 3), _varint(value)]
        else:
            data = value.encode() if isinstance(value, str) else value
            parts += [_varint(number << 3 | 2), _varint(len(data)), data]
    return b"".join(parts)


def _varint(value: int) -> bytes:
    low, high = value & 127, value >> 7
    return bytes([low | 128]) + _varint(high) if high else bytes([low])


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of a message's fields: an int, or the bytes of anything longer."""
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        if key & 7 == 0:
            value, at = _read_varint(message, at)
            yield key >> 3, value
        else:
            size, at = _read_varint(message, at) if key & 7 == 2 else ({1: 8, 5: 4}[key & 7], at)
            yield key >> 3, message[at : at + size]
            at += size


def _submessages(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The fields that are messages, texts or bytes."""
    yield from ((number, value) for number, value in _fields(message) if not isinstance(value, int))


def _numbers(message: memoryview) -> Iterator[tuple[int, int]]:
    """The fields that are integers."""
    yield from ((number, value) for number, value in _fields(message) if isinstance(value, int))


def _varints(message: memoryview) -> list[int]:
    values, at = [], 0
    while at < len(message):
        value, at = _read_varint(message, at)
        values.append(value)
    return values


def _read_varint(message: memoryview, at: int) -> tuple[int, int]:
    """The integer that begins at an offset, and the offset behind it."""
    value = shift = 0
    while True:
        byte = message[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at
