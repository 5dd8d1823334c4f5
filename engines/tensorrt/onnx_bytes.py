"""Small ONNX models written without the onnx package, which a board does not have.

Just enough of protobuf for operators whose attributes are integers; field numbers are those of onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

FLOAT, INT64, FLOAT16 = 1, 7, 10
_IR_VERSION = 10
_ATTRIBUTE_INT = 2


@dataclass(frozen=True)
class Node:
    """An operator."""

    kind: str
    inputs: Sequence[str]
    output: str
    attributes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Tensor:
    """An input or output: its name, element type, and sizes or names of sizes."""

    name: str
    dtype: int
    shape: Sequence[int | str]


def model_bytes(nodes: Iterable[Node], inputs: Iterable[Tensor], outputs: Iterable[Tensor], opset: int) -> bytes:
    """A model as the bytes of its file."""
    graph = b"".join(_message(1, _node(node)) for node in nodes) + _text(2, "graph")
    graph += b"".join(_message(11, _tensor(tensor)) for tensor in inputs)
    graph += b"".join(_message(12, _tensor(tensor)) for tensor in outputs)
    return _number(1, _IR_VERSION) + _message(7, graph) + _message(8, _number(2, opset))


def _node(node: Node) -> bytes:
    names = b"".join(_text(1, name) for name in node.inputs)
    attributes = b"".join(
        _message(5, _text(1, name) + _number(3, value) + _number(20, _ATTRIBUTE_INT))
        for name, value in node.attributes.items()
    )
    return names + _text(2, node.output) + _text(3, node.output) + _text(4, node.kind) + attributes


def _tensor(tensor: Tensor) -> bytes:
    dims = b"".join(_message(1, _text(2, dim) if isinstance(dim, str) else _number(1, dim)) for dim in tensor.shape)
    return _text(1, tensor.name) + _message(2, _message(1, _number(1, tensor.dtype) + _message(2, dims)))


def _number(field_number: int, value: int) -> bytes:
    return _varint(field_number << 3) + _varint(value % (1 << 64))  # negative ones as two's complement


def _text(field_number: int, text: str) -> bytes:
    return _message(field_number, text.encode())


def _message(field_number: int, content: bytes) -> bytes:
    return _varint(field_number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
