"""Reads and writes ONNX files where there is no `onnx` package, as on a device: protobuf's wire format.

Wire format: https://protobuf.dev/programming-guides/encoding; numbers of fields and data types:
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

# onnx.TensorProto.DataType.
FLOAT, UINT8, INT8, INT32, INT64, BOOL, FLOAT16, BFLOAT16, INT4 = 1, 2, 3, 6, 7, 9, 10, 16, 22
DTYPES: dict[int, type[np.generic]] = {FLOAT: np.float32, INT64: np.int64, FLOAT16: np.float16}  # of our graphs' values
# Fields of ModelProto, GraphProto, NodeProto, ValueInfoProto, TypeProto and its Tensor.
MODEL_GRAPH, GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT = 7, 1, 5, 11, 12
NODE_INPUT, NODE_OUTPUT, NODE_OPERATOR = 1, 2, 4
VALUE_NAME, VALUE_TYPE, TYPE_TENSOR, TENSOR_ELEMENT = 1, 2, 1, 1
# Wire types, the low bits of a field's key: a number, or bytes of a length that follows or is fixed.
KEY_BITS, VARINT, LENGTH = 3, 0, 2
FIXED_LENGTHS = {1: 8, 5: 4}
LONGEST_SHIFT = 63

Value = int | memoryview


def read_graph(path: Path) -> memoryview:
    """Returns the GraphProto of an ONNX file.

    Raises:
        KeyError: the file holds none.
    """
    return submessage(memoryview(path.read_bytes()), MODEL_GRAPH)


def tensor_dtypes(path: Path) -> dict[str, type[np.generic]]:
    """Returns the dtypes of a model's inputs and outputs by name; its weights are not read.

    Raises:
        KeyError: a type that no graph of this project takes or returns.
    """
    found = {}
    for number, value in fields(read_graph(path)):
        if number in (GRAPH_INPUT, GRAPH_OUTPUT):
            info = as_message(value)
            tensor = submessage(submessage(info, VALUE_TYPE), TYPE_TENSOR)
            found[text(dict(fields(info))[VALUE_NAME])] = DTYPES[as_number(dict(fields(tensor))[TENSOR_ELEMENT])]
    return found


def node_outputs(path: Path) -> dict[str, str]:
    """Returns the operators of a model, in its order, by the names of their outputs."""
    found: dict[str, str] = {}
    for number, value in fields(read_graph(path)):
        if number == GRAPH_NODE:
            node = list(fields(as_message(value)))
            operator = next(text(one) for field, one in node if field == NODE_OPERATOR)
            found |= {text(one): operator for field, one in node if field == NODE_OUTPUT}
    return found


def fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """Yields number and value of a message's fields: an int, or the bytes of anything longer.

    Raises:
        IndexError: the message ends within a field, or a number has more than 64 bits.
        KeyError: a wire type that protobuf no longer uses.
    """
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        wire_type = key & (1 << KEY_BITS) - 1
        value: Value
        if wire_type == VARINT:
            value, at = _read_varint(message, at)
        else:
            size, at = _read_varint(message, at) if wire_type == LENGTH else (FIXED_LENGTHS[wire_type], at)
            if size > len(message) - at:
                raise IndexError(f"a field of {size} bytes in {len(message) - at}")
            value = message[at : at + size]
            at += size
        yield key >> KEY_BITS, value


def submessage(message: memoryview, number: int) -> memoryview:
    """Returns the message in a field, the last one where there are several.

    Args:
        message: that holds it.
        number: of the field.

    Raises:
        KeyError: there is no such field.
        TypeError: the field holds a number.
    """
    return as_message(dict(fields(message))[number])


def as_message(value: Value) -> memoryview:
    """Returns a field's bytes.

    Raises:
        TypeError: it is a number.
    """
    if isinstance(value, int):
        raise TypeError(f"{value} is no message")
    return value


def as_number(value: Value) -> int:
    """Returns a field's number.

    Raises:
        TypeError: it is bytes.
    """
    if not isinstance(value, int):
        raise TypeError(f"{len(value)} bytes are no number")
    return value


def text(value: Value) -> str:
    """Returns a field's text.

    Raises:
        TypeError: it is a number.
    """
    return bytes(as_message(value)).decode()


def repeated_numbers(value: Value) -> list[int]:
    """Returns the numbers in a field: packed by some writers, in a field each by others."""
    if isinstance(value, int):
        return [value]
    numbers, at = [], 0
    while at < len(value):
        number, at = _read_varint(value, at)
        numbers.append(number)
    return numbers


def message(*numbered: tuple[int, int | str | bytes]) -> bytes:
    """Writes a message.

    Args:
        numbered: number and value of its fields: a number, a text, bytes, or a message.
    """
    parts = []
    for number, value in numbered:
        if isinstance(value, int):
            parts += [_varint(number << KEY_BITS | VARINT), _varint(value)]
        else:
            data = value.encode() if isinstance(value, str) else value
            parts += [_varint(number << KEY_BITS | LENGTH), _varint(len(data)), data]
    return b"".join(parts)


def _varint(value: int) -> bytes:
    low, high = value & 127, value >> 7
    return bytes([low | 128]) + _varint(high) if high else bytes([low])


def _read_varint(message: memoryview, at: int) -> tuple[int, int]:
    """Returns a number and where the next field begins."""
    value = shift = 0
    while True:
        if shift > LONGEST_SHIFT:
            raise IndexError("a number of more than 64 bits")
        byte = message[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at
