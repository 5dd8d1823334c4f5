"""XNNPACK's rules, a node on each side of every one; and what comes of them for a stage, counted by hand."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from mobilevlm.export.backends.ort.xnnpack_coverage import ROWS, Coverage, coverage, render_coverage, share_taken
from mobilevlm.export.backends.ort.xnnpack_rules import RULES, Operation, Value, reason_to_stay
from mobilevlm.export.lowerings import ort as ort_lowering
from mobilevlm.export.lowerings import ort_xnnpack
from mobilevlm.export.precisions import precision
from mobilevlm.export.split.graph import Graph

FLOAT, FLOAT16, INT8, UINT8 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8, TensorProto.UINT8
ROW, SQUARE, BIAS = Value(FLOAT, (7, 8)), Value(FLOAT, (8, 6), True), Value(FLOAT, (6,), True)
PICTURE, KERNEL = Value(FLOAT, (None, 3, 9, 9)), Value(FLOAT, (5, 3, 3, 3), True)
POOLED = Value(FLOAT, (1, 5, 9, 9))
# The smallest node of each operator that is taken.
TAKEN = {
    "MatMul": Operation("MatMul", 21, [ROW, SQUARE]),
    "Gemm": Operation("Gemm", 21, [ROW, SQUARE, BIAS]),
    "Conv": Operation("Conv", 21, [PICTURE, KERNEL]),
    "MaxPool": Operation("MaxPool", 21, [POOLED], {"kernel_shape": [2, 2]}, [POOLED]),
    "AveragePool": Operation("AveragePool", 21, [POOLED], {"kernel_shape": [2, 2]}),
    "Softmax": Operation("Softmax", 21, [Value(FLOAT, (None, 4, 9))]),
}
ALSO_TAKEN = [
    Operation("MatMul", 21, [Value(FLOAT16, (7, 8)), Value(FLOAT16, (8, 6), True)]),
    Operation("MatMul", 21, [Value(FLOAT, (8,)), Value(FLOAT, (8,), True)]),
    Operation("Gemm", 13, [ROW, SQUARE, BIAS], {"alpha": 1.0, "beta": 1.0, "transB": 0}),
    Operation("Conv", 11, [PICTURE, KERNEL, Value(FLOAT, (5,), True)], {"pads": [1, 1, 1, 1], "group": 1}),
    Operation("Conv", 11, [PICTURE, KERNEL], {"auto_pad": "SAME_UPPER"}),
    Operation("Conv", 11, [PICTURE, KERNEL], {"auto_pad": "SAME_LOWER", "pads": [1, 1, 1, 1]}),
    Operation("MaxPool", 12, [Value(INT8, (1, 5, 9, 9))], {"kernel_shape": [2, 1]}),
    Operation("AveragePool", 11, [Value(UINT8, (1, 5, 9, 9))], {"kernel_shape": [2, 2], "count_include_pad": 0}),
    Operation("Softmax", 13, [Value(FLOAT, (2, 4, 9))], {"axis": 2}),
    Operation("Softmax", 11, [Value(FLOAT, (2, 4, 9))], {"axis": 1}),
]
LEFT = [
    ("MatMul", [Value(INT8, (7, 8)), SQUARE], {}, "another type"),
    ("MatMul", [Value(FLOAT, (1, 7, 8)), SQUARE], {}, "it has more than two dimensions"),
    ("MatMul", [Value(FLOAT, (None, 8)), SQUARE], {}, "rows are not known"),
    ("MatMul", [ROW, Value(FLOAT, (1, 8, 6), True)], {}, "second matrix has more"),
    ("MatMul", [ROW, Value(FLOAT, (8, 6))], {}, "second matrix is not constant"),
    ("Gemm", [ROW, SQUARE, BIAS], {"alpha": 0.5}, "scales"),
    ("Gemm", [ROW, SQUARE, BIAS], {"beta": 0.0}, "scales"),
    ("Gemm", [Value(INT8, (7, 8)), SQUARE, BIAS], {}, "another type"),
    ("Gemm", [ROW, Value(FLOAT, (8, 6)), BIAS], {}, "second matrix is not constant"),
    ("Gemm", [ROW, SQUARE, Value(FLOAT, (6,))], {}, "bias is not constant"),
    ("Gemm", [Value(FLOAT, (1, 7, 8)), SQUARE, BIAS], {}, "more than two"),
    ("Gemm", [ROW, SQUARE], {}, "no bias"),
    ("Gemm", [ROW, SQUARE, Value(FLOAT, (1,), True)], {}, "not of its outputs' size"),
    ("Conv", [Value(FLOAT, (1, 3, 9)), Value(FLOAT, (5, 3, 3), True)], {}, "four dimensions"),
    ("Conv", [Value(FLOAT, (1, 3, None, 9)), KERNEL], {}, "not known"),
    ("Conv", [Value(TensorProto.DOUBLE, (1, 3, 9, 9)), KERNEL], {}, "another type"),
    ("Conv", [PICTURE, Value(FLOAT, (5, 3, 3, 3))], {}, "kernel is not constant"),
    ("Conv", [PICTURE, Value(FLOAT, (5, 3, 3), True)], {}, "kernel has not four"),
    ("Conv", [PICTURE, KERNEL, Value(FLOAT, (5,))], {}, "bias is not constant"),
    ("Conv", [PICTURE, KERNEL], {"auto_pad": "SAME_LOWER"}, "padding"),
    ("MaxPool", [Value(FLOAT16, (1, 5, 9, 9))], {"kernel_shape": [2, 2]}, "another type"),
    ("MaxPool", [Value(FLOAT, (1, 5, 9))], {"kernel_shape": [2]}, "four dimensions"),
    ("MaxPool", [Value(FLOAT, (1, None, 9, 9))], {"kernel_shape": [2, 2]}, "not known"),
    ("MaxPool", [POOLED], {"kernel_shape": [2, 2], "ceil_mode": 1}, "rounded up"),
    ("MaxPool", [POOLED], {"kernel_shape": [2, 2], "auto_pad": "SAME_LOWER"}, "padding"),
    ("MaxPool", [POOLED], {"kernel_shape": [1, 1]}, "single value"),
    ("AveragePool", [Value(INT8, (1, 5, 9, 9))], {"kernel_shape": [2, 2]}, "another type"),
    ("AveragePool", [POOLED], {"kernel_shape": [2, 2], "count_include_pad": 1}, "counts padding"),
    ("Softmax", [Value(INT8, (2, 4, 9))], {}, "another type"),
    ("Softmax", [Value(FLOAT, (2, 4, 9))], {"axis": 1}, "not over the last"),
    ("Softmax", [Value(FLOAT, (2, 4, None))], {}, "not known"),
    ("LayerNormalization", [ROW, BIAS], {}, "no kernel"),
    ("com.microsoft.MatMulNBits", [ROW], {}, "no kernel"),
]


@pytest.mark.parametrize("node", [*TAKEN.values(), *ALSO_TAKEN], ids=lambda node: node.op_type)
def test_nodes_that_are_taken(node):
    assert reason_to_stay(node) == ""


@pytest.mark.parametrize("op_type, inputs, attributes, reason", LEFT)
def test_nodes_that_stay(op_type, inputs, attributes, reason):
    assert reason in reason_to_stay(Operation(op_type, 21, inputs, attributes))


def test_old_opsets_and_second_outputs_stay():
    assert "below 11" in reason_to_stay(Operation("Conv", 10, [PICTURE, KERNEL]))
    assert "below 8" in reason_to_stay(Operation("MaxPool", 7, [POOLED], {"kernel_shape": [2, 2]}))
    two = Operation("MaxPool", 21, [POOLED], {"kernel_shape": [2, 2]}, [POOLED, POOLED])
    assert "where the largest" in reason_to_stay(two)


def test_every_rule_has_a_node_that_breaks_it():
    """A rule nothing is tested against would not be missed."""
    assert set(TAKEN) == set(RULES)
    broken = {(op_type, reason_to_stay(Operation(op_type, 21, *rest))) for op_type, *rest, _ in LEFT}
    broken |= {("Conv", "its opset is below 11"), ("MaxPool", "its opset is below 8")}
    broken |= {("MaxPool", "it hands out where the largest values were")}
    pools = {(name, reason) for name in ("MaxPool", "AveragePool") for other, reason in broken if "Pool" in other}
    assert {(name, reason) for name, rules in RULES.items() for _, reason in rules} <= broken | pools


def attention_graph(lowering, name, directory):
    """One layer's vision attention on 5 rows of 8, in two heads."""
    generator = torch.Generator().manual_seed(0)
    tensors = {
        f"{part}.{kind}": torch.randn(shape, generator=generator)
        for part in "qkv"
        for kind, shape in (("weight", (8, 8)), ("bias", (8,)))
    }
    # Weights have to be as large as a file's: smaller ones are written inline.
    path = directory / f"{lowering.__name__.split('.')[-1]}-{name}.onnx"
    with Graph("test", tensors, precision(name), path.with_suffix(".weights")) as graph:
        graph.input("x", TensorProto.FLOAT, [1, 5, 8])
        graph.op("Identity", lowering.vision_attention(graph, "x", list("qkv"), 2, 8), out="y")
        graph.output("y", TensorProto.FLOAT, [1, 5, 8])
        graph.save(path)
    return path


@pytest.mark.parametrize("name", ["fp32", "fp16"])
def test_products_with_a_bias_of_their_own_become_what_xnnpack_takes(name, tmp_path):
    """ONNX Runtime itself folds and fuses here: a float16 weight is a constant product, too."""
    inside, outside = (coverage(attention_graph(one, name, tmp_path)) for one in (ort_lowering, ort_xnnpack))
    products, attention = 3 * 5 * 8 * 8, 2 * 5 * 5 * 8
    assert Coverage("Gemm", "", 3, products) in outside
    assert Coverage("MatMul", "it has more than two dimensions", 3, products) in inside
    assert Coverage("com.microsoft.MultiHeadAttention", "no kernel", 1, attention) in inside
    assert share_taken(inside) == 0 and share_taken(outside) == products / (products + attention)
    assert "Cast" not in {one.op_type for one in outside}
    text = render_coverage({"vision": outside})
    assert f"| vision | Gemm | 3 | | | {products / (products + attention):.1%} |" in text


def test_both_lowerings_compute_the_same(tmp_path):
    import onnxruntime as ort

    x = np.random.default_rng(0).standard_normal((1, 5, 8)).astype(np.float32)
    paths = [attention_graph(one, "fp32", tmp_path) for one in (ort_lowering, ort_xnnpack)]
    inside, outside = (ort.InferenceSession(str(path)).run(None, {"x": x})[0] for path in paths)
    np.testing.assert_allclose(outside, inside, atol=1e-5)


def test_multiply_adds_of_a_convolution_and_of_rows_that_are_not_known(tmp_path):
    """A depthwise convolution of stride 2, and a product of as many rows as are asked for."""
    tensors = {"conv.weight": torch.ones(6, 1, 3, 3), "layer.weight": torch.ones(16, 64)}
    with Graph("test", tensors, precision("fp32"), tmp_path / "test.weights") as graph:
        graph.input("image", TensorProto.FLOAT, [1, 6, 8, 8])
        graph.input("x", TensorProto.FLOAT, [1, "sequence", 64])
        kernel = graph.weight("conv.weight")
        sizes = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2], "group": 6}
        graph.op("Conv", "image", kernel, out="pooled", **sizes)
        graph.op("Identity", graph.linear("x", "layer"), out="y")
        graph.output("pooled", TensorProto.FLOAT, [1, 6, 4, 4])
        graph.output("y", TensorProto.FLOAT, [1, "sequence", 16])
        graph.save(tmp_path / "test.onnx")
    found = {one.op_type: one for one in coverage(tmp_path / "test.onnx")}
    assert found["Conv"] == Coverage("Conv", "", 1, 6 * 4 * 4 * 9)
    assert found["MatMul"] == Coverage("MatMul", "it has more than two dimensions", 1, ROWS * 64 * 16)
    assert onnx.load(tmp_path / "test.onnx").graph.input[1].type.tensor_type.shape.dim[1].dim_param == "sequence"
