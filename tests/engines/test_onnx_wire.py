"""ONNX's wire format without the onnx package: the same values as the package reads, errors on damaged files."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mobilevlm.engines import onnx_wire as wire


def small_model() -> onnx.ModelProto:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Cast", ["y"], ["z"], to=10)]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 300])
    z = helper.make_tensor_value_info("z", TensorProto.FLOAT16, ["rows", 2])
    weight = onnx.numpy_helper.from_array(np.ones((300, 2), np.float32), "w")
    return helper.make_model(helper.make_graph(nodes, "small", [x], [z], [weight]))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "small.onnx"
    path.write_bytes(small_model().SerializeToString())
    return path


def test_what_the_package_writes_is_read(path):
    assert wire.node_outputs(path) == {"y": "MatMul", "z": "Cast"}
    assert wire.tensor_dtypes(path) == {"x": np.float32, "z": np.float16}


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 2**31, 2**63 - 1])
def test_numbers_there_and_back(number):
    written = wire.message((1, number), (20, "text"), (21, b"\x00\xff"))
    read = list(wire.fields(memoryview(written)))
    assert [field for field, _ in read] == [1, 20, 21] and read[0][1] == number
    assert wire.text(read[1][1]) == "text" and bytes(read[2][1]) == b"\x00\xff"
    assert wire.repeated_numbers(read[0][1]) == [number]


def test_packed_numbers_and_fixed_lengths():
    assert wire.repeated_numbers(memoryview(b"\x03\x90\x03")) == [3, 400]
    read = list(wire.fields(memoryview(b"\x0d\1\2\3\4\x09\1\2\3\4\5\6\7\x08\x10\x05")))
    assert read == [(1, b"\1\2\3\4"), (1, b"\1\2\3\4\5\6\7\x08"), (2, 5)]


@pytest.mark.parametrize(
    ("content", "error"),
    [(b"", KeyError), (b"\x3a\xff", IndexError), (b"\x3b", KeyError), (b"\x38\x01", TypeError), (b"\x80", IndexError)],
    ids=["empty", "cut length", "wire type", "a number for a graph", "cut number"],
)
def test_damaged_files(content, error, path):
    path.write_bytes(content)
    with pytest.raises(error):
        wire.node_outputs(path)
