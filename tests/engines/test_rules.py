"""Each rule of TensorRT has a graph that breaks it, and is refused with the node named; a good one passes."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mobilevlm.engines.rules.check import check
from mobilevlm.engines.rules.operators import OPERATORS

HALF, FLOAT, INT64 = TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.INT64
K, N = 256, 64


class Draft:
    """A graph in the making: `x` (1, rows, 256) float16 goes in, the last node's output comes out."""

    def __init__(self, opset: int = 20):
        self.opset, self.nodes, self.weights = opset, [], []
        self.inputs = [helper.make_tensor_value_info("x", HALF, [1, "rows", K])]
        self.outputs = []
        self.domains = {"": opset}

    def op(self, kind: str, *inputs: str, out: str = "", domain: str = "", **attributes) -> str:
        out = out or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], f"{len(self.nodes)}_{kind}", domain=domain))
        self.nodes[-1].attribute.extend(helper.make_attribute(*item) for item in attributes.items())
        return out

    def weight(self, value, dtype=np.float16) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(value, dtype), f"w{len(self.weights)}"))
        return self.weights[-1].name

    def input(self, name: str, kind: int, shape) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, name: str, kind: int = HALF, shape=None) -> None:
        self.outputs.append(helper.make_tensor_value_info(name, kind, shape or [1, "rows", "width"]))

    def model(self) -> onnx.ModelProto:
        if not self.outputs:
            self.output(self.nodes[-1].output[0])
        graph = helper.make_graph(self.nodes, "draft", self.inputs, self.outputs, self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid(*one) for one in self.domains.items()])


def matrix() -> np.ndarray:
    return np.ones((K, N))


def plain() -> Draft:
    draft = Draft()
    draft.op("MatMul", "x", draft.weight(matrix()))
    return draft


def int8(x: str = "x", axis=1, scales=N, step=(), zero=np.int8, **attributes) -> Draft:
    """One layer in codes."""
    draft = Draft()
    numbers = draft.weight(np.full(step, 0.1)), draft.weight(np.zeros(step), zero)
    rows = draft.op("DequantizeLinear", draft.op("QuantizeLinear", x, *numbers), *numbers)
    axes = {} if axis is None else {"axis": axis}
    stored = draft.weight(matrix(), np.int8), draft.weight(np.full(scales, 0.1))
    draft.op("MatMul", rows, draft.op("DequantizeLinear", *stored, **axes, **attributes))
    return draft


def int4(block: int = 128, columns: int = N, axis: int = 0, opset: int = 21, **attributes) -> Draft:
    draft = Draft(opset)
    codes = helper.make_tensor("codes", TensorProto.INT4, [K, columns], bytes(K * columns // 2), raw=True)
    draft.weights.append(codes)
    scales = draft.weight(np.full((K // block, columns), 0.1))
    draft.op("MatMul", "x", draft.op("DequantizeLinear", "codes", scales, axis=axis, block_size=block, **attributes))
    return draft


def attention(inputs=("query", "key", "value", "attention_mask"), rank: int = 4, **attributes) -> Draft:
    draft = Draft(24)
    draft.inputs = []
    attributes = {"TRT_decomposable": 1} | attributes
    for name in inputs:
        draft.input(name, HALF, [1, 2, "rows", 32][:rank] if name != "attention_mask" else [1, 1, "rows", "rows"])
    draft.op("Attention", *inputs, **{name: value for name, value in attributes.items() if value is not None})
    return draft


def scatter(cache=(1, 2, 64, 32), is_output=True, axis=-2, read=False) -> Draft:
    draft = Draft(24)
    draft.inputs = []
    names = draft.input("cache", HALF, cache), draft.input("new", HALF, [1, 2, "rows", 32])
    out = draft.op("TensorScatter", *names, draft.input("write_indices", INT64, [1]), axis=axis)
    if read:
        draft.output(draft.op("Mul", "cache", "cache"))
    if is_output:
        draft.output(out, HALF, list(cache))
    else:
        draft.output(draft.op("Sigmoid", out))
    return draft


def with_node(kind: str, *values, **attributes) -> Draft:
    draft = Draft()
    draft.op(kind, "x", *(draft.weight(*value) for value in values), **attributes)
    return draft


def norm() -> Draft:
    draft = Draft()
    draft.op("ReduceMean", draft.op("Mul", "x", "x"), draft.weight([-1], np.int64), keepdims=1)
    return draft


def scores() -> Draft:
    draft = Draft()
    product = draft.op("MatMul", "x", draft.weight(matrix()))
    draft.op("Softmax", draft.op("Mul", product, draft.weight(0.1)))
    return draft


def from_input(kind: str) -> Draft:
    draft = Draft()
    length = draft.op("Add", draft.input("length", INT64, [1]), draft.weight([1], np.int64))
    if kind == "Slice":
        draft.op("Slice", "x", draft.weight([0], np.int64), length, draft.weight([1], np.int64))
    else:
        draft.op("Reshape", "x", draft.op("Concat", draft.weight([-1], np.int64), length, axis=0))
    return draft


def changed(draft: Draft, change) -> Draft:
    change(draft)
    return draft


def residual() -> Draft:
    """An int8 sum: the code of a layer's input is added, too."""
    draft = int8()
    draft.op("Add", "v1", "x")
    return draft


def external(file: str) -> Draft:
    draft = plain()
    tensor = draft.weights[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=file)
    return draft


def cast_weights() -> Draft:
    draft = Draft()
    stored = draft.weight(matrix(), np.int8), draft.weight(np.full(N, 0.1), np.float32)
    draft.op("MatMul", "x", draft.op("Cast", draft.op("DequantizeLinear", *stored, axis=1), to=HALF))
    return draft


def coded_while_running() -> Draft:
    draft = int8()
    draft.nodes[0].input[0] = draft.weight(matrix())
    return draft


# What is wrong: the graph, the version of TensorRT, the node that is named, and words of the rule.
BAD = {
    "opset": (plain().__class__(21), "10.3", "opset 21", "reads up to 20"),
    "opset of fused": (Draft(25), "10.16", "opset 25", "reads up to 24"),
    "too old": (Draft(), "8.6", "opset 20", "10.3 is the oldest"),
    "domain": (changed(Draft(), lambda d: d.domains.update({"com.microsoft": 1})), "10.3", "com.microsoft", "domain"),
    "vendor's operator": (with_node("FusedMatMul", domain="com.microsoft"), "10.3", "0_FusedMatMul", "no operator"),
    "unknown operator": (with_node("Einsum"), "10.16", "0_Einsum", "no operator"),
    "newer operator": (attention(), "10.3", "0_Attention", "no operator"),
    "type": (with_node("Gelu"), "10.3", "0_Gelu", "w0 is int64"),
    "mixed types": (with_node("Mul", (1.0, np.float32)), "10.3", "0_Mul", "differ in type: x float16, w0 float32"),
    "output's type": (changed(plain(), lambda d: d.output("v0", FLOAT)), "10.3", "output v0", "declared float32"),
    "scale's type": (with_node("QuantizeLinear", (0.1, np.float32)), "10.3", "0_QuantizeLinear", "differ in type"),
    "float16 norm": (norm(), "10.3", "1_ReduceMean", "squares are summed in float16"),
    "float16 layer norm": (with_node("LayerNormalization", ([1.0] * K,)), "11.4", "0_LayerNormalization", "squares"),
    "value that sizes": (from_input("Slice"), "10.3", "1_Slice", "sizes come from the values of input length"),
    "value that shapes": (from_input("Reshape"), "10.16", "2_Reshape", "sizes come from the values of input length"),
    "computed axes": (changed(Draft(), lambda d: d.op("ReduceMean", "x", d.input("a", 7, [1]))), "10.3", "0_", "a is"),
    "too many": (with_node("TopK", ([4000], np.int64)), "10.3", "0_TopK", "sorts out 4000"),
    "computed count": (changed(Draft(), lambda d: d.op("TopK", "x", d.input("k", INT64, [1]))), "11.4", "0_", "k is"),
    "places as values": (
        changed(with_node("TopK", ([4], np.int64)), lambda d: d.nodes[0].output.append("places") or d.output("places")),
        "10.3", "output places", "declared float16 and is int64",
    ),
    "rank": (changed(plain(), lambda d: d.input("deep", HALF, [1] * 9)), "10.3", "deep", "9 dimensions"),
    "empty": (changed(plain(), lambda d: d.input("none", HALF, [1, 0])), "10.3", "none", "empty"),
    "no name": (changed(plain(), lambda d: d.input("any", HALF, [None])), "10.3", "input any", "neither size nor name"),
    "unread input": (changed(plain(), lambda d: d.input("idle", HALF, [1])), "10.3", "input idle", "read by nothing"),
    "infinite mask": (with_node("Add", (-np.inf,)), "10.3", "weight w0", "not finite"),
    "mask elsewhere": (
        changed(plain(), lambda d: d.op("Mul", d.input("attention_mask", HALF, [1]), "v0")),
        "10.3", "1_Mul", "reads the mask",
    ),
    "scaled scores": (scores(), "10.3", "1_Mul", "scales scores"),
    "output is input": (changed(Draft(), lambda d: d.op("Identity", "x")), "10.3", "output v0", "one address"),
    "file elsewhere": (external("../w.bin"), "10.3", "weight w0", "lies in '../w.bin'"),
    "no offset": (external("w.bin"), "10.3", "weight w0", "where in its file"),
    "zero point": (
        changed(int8(), lambda d: d.weights[1].CopyFrom(numpy_helper.from_array(np.array(3, np.int8), "w1"))),
        "10.3", "0_QuantizeLinear", "not known to be zero",
    ),
    "unsigned": (int8(zero=np.uint8), "10.3", "0_QuantizeLinear", "zero point is uint8"),
    "scale of zero": (
        changed(int8(), lambda d: d.weights[0].CopyFrom(numpy_helper.from_array(np.float16(0), "w0"))),
        "10.3", "0_QuantizeLinear", "not above zero",
    ),
    "channels of values": (int8(step=K), "10.3", "0_QuantizeLinear", "scale for each channel"),
    "axis": (int8(axis=0, scales=K), "10.3", "2_DequantizeLinear", "one for each output: axis 1"),
    "no axis": (int8(axis=None), "10.3", "2_DequantizeLinear", "says no axis"),
    "output type": (int8(output_dtype=HALF), "10.3", "2_DequantizeLinear", "output_dtype"),
    "int8 residual": (residual(), "10.3", "4_Add", "no layer with int8 weights"),
    "codes read": (
        changed(Draft(), lambda d: d.op("Transpose", d.op("QuantizeLinear", "x", d.weight(0.1)), perm=[0, 2, 1])),
        "10.3", "1_Transpose", "reads codes",
    ),
    "other scale": (
        changed(int8(), lambda d: d.nodes[1].input.__setitem__(1, d.weight(0.2))), "10.3", "1_Deq", "another scale",
    ),
    "weight coded": (coded_while_running(), "10.3", "0_QuantizeLinear", "coded while it runs"),
    "cast weights": (cast_weights(), "10.3", "1_Cast", "casts decoded weights"),
    "small blocks": (int4(32), "10.3", "0_DequantizeLinear", "blocks of 32"),
    "odd int4": (int4(columns=63), "10.3", "0_DequantizeLinear", "odd last size"),
    "blocks elsewhere": (int4(axis=1), "10.3", "0_DequantizeLinear", "do not cut"),
    "newer int4": (int4(opset=22), "10.3", "opset 22", "up to 21"),
    "no mask": (attention(("query", "key", "value")), "10.16", "0_Attention", "has no mask"),
    "causal": (attention(is_causal=1), "10.16", "0_Attention", "is_causal"),
    "not decomposable": (attention(TRT_decomposable=None), "10.16", "0_Attention", "no kernel"),
    "heads apart": (attention(rank=3), "10.16", "0_Attention", "has not 4 dimensions"),
    "past": (
        attention(("query", "key", "value", "attention_mask", "past_key", "past_value")),
        "10.16", "0_Attention", "has a past",
    ),
    "cache is not handed out": (scatter(is_output=False), "10.16", "0_TensorScatter", "its result no output"),
    "cache of any size": (scatter((1, 2, "rows", 32)), "10.16", "0_TensorScatter", "4 dimensions of known sizes"),
    "cache's axis": (scatter(axis=1), "10.16", "0_TensorScatter", "another axis"),
    "cache read before": (scatter(read=True), "10.16", "0_TensorScatter", "is read by others"),
    "cache between addresses": (scatter((1, 1, 3, 32)), "10.16", "0_TensorScatter", "no multiple of 256"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_graph_is_refused_and_the_node_is_named(name):
    draft, version, node, rule = BAD[name]
    if name == "type":
        draft.nodes[0].input[0] = draft.weight([1], np.int64)
    if not draft.nodes:
        draft.op("MatMul", "x", draft.weight(matrix()))
    found = check(draft.model(), version)
    assert any(node in one.node and rule in str(one) for one in found), list(map(str, found))
    assert all(one.remedy for one in found)


@pytest.mark.parametrize(
    "draft, versions",
    [
        (plain(), ("10.3", "10.16", "11.4")),
        (int8(), ("10.3.0", "10.16.2.3", "11.4.1")),
        (int4(), ("10.3", "11.4")),
        (int4(64), ("10.3",)),
        (attention(), ("10.14", "10.16", "11.4")),
        (scatter(), ("10.15", "11.4")),
    ],
)
def test_a_good_graph_passes(draft, versions):
    for version in versions:
        if draft.opset <= 21 or version != "10.14":
            assert check(draft.model(), version) == []


def test_operators_are_onnxs_own():
    """Nothing in the table is misspelt."""
    for name in OPERATORS:
        assert onnx.defs.has(name), name
