"""Small graphs to put in front of rules: what makes them, one function for each form."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

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
        if not self.nodes:
            self.op("MatMul", "x", self.weight(matrix()))
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


def attention(inputs=("query", "key", "value", "attention_mask"), shape=(1, 2, "rows", 32), **attributes) -> Draft:
    draft = Draft(24)
    draft.inputs = []
    attributes = {"TRT_decomposable": 1} | attributes
    for name in inputs:
        draft.input(name, HALF, shape if name != "attention_mask" else [1, 1, "rows", "rows"])
    draft.op("Attention", *inputs, **{name: value for name, value in attributes.items() if value is not None})
    return draft


def scatter(cache=(1, 2, 64, 32), is_output=True, axis=-2, read=False) -> Draft:
    draft = Draft(24)
    draft.inputs = []
    names = draft.input("cache", HALF, cache), draft.input("new", HALF, [1, cache[1], "rows", 32])
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


def topk(count=None) -> Draft:
    """The largest of each row's 8,192; None: as many as an input says."""
    draft = Draft()
    draft.inputs = [helper.make_tensor_value_info("x", HALF, [1, "rows", 8192])]
    draft.op("TopK", "x", draft.input("k", INT64, [1]) if count is None else draft.weight([count], np.int64))
    draft.nodes[0].output.append("places")
    draft.output("v0")
    draft.output("places", INT64)
    return draft


def places_as_values() -> Draft:
    draft = topk(4)
    draft.outputs.pop()
    draft.output("places")
    return draft


def of_integers() -> Draft:
    draft = Draft()
    draft.inputs = [helper.make_tensor_value_info("x", INT64, [1, "rows", K])]
    draft.op("Gelu", "x")
    return draft


def scale_of_float32() -> Draft:
    draft = Draft()
    scale = draft.weight(0.1, np.float32)
    draft.output(draft.op("DequantizeLinear", draft.op("QuantizeLinear", "x", scale), scale), FLOAT)
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


def beside(name: str, shape) -> Draft:
    """Another input, of this shape, for an output of its own."""
    draft = Draft()
    product = draft.op("MatMul", "x", draft.weight(matrix()))
    draft.output(draft.op("Sigmoid", draft.input(name, HALF, shape)), HALF, shape)
    draft.output(product)
    return draft


def einsum() -> Draft:
    draft = Draft()
    draft.op("Einsum", "x", draft.weight(matrix()), equation="abk,kn->abn")
    return draft


def residual() -> Draft:
    """An int8 sum: the code of a layer's input is added, too."""
    draft = int8()
    draft.op("Add", "v1", "x")
    return draft


def external(file: str, **where: int) -> Draft:
    draft = plain()
    tensor = draft.weights[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": file, **where}.items():
        tensor.external_data.add(key=key, value=str(value))
    return draft


def cast_weights() -> Draft:
    draft = Draft()
    stored = draft.weight(matrix(), np.int8), draft.weight(np.full(N, 0.1), np.float32)
    draft.op("MatMul", "x", draft.op("Cast", draft.op("DequantizeLinear", *stored, axis=1), to=HALF))
    return draft


def coded_while_running() -> Draft:
    draft = Draft()
    numbers = draft.weight(0.1), draft.weight(0, np.int8)
    codes = draft.op("QuantizeLinear", draft.weight(matrix()), *numbers)
    draft.op("MatMul", "x", draft.op("DequantizeLinear", codes, *numbers))
    return draft
