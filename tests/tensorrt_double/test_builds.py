"""What the double's builder refuses: each rule of TensorRT's, broken on purpose. It never raises, it logs."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from .module import pretended
from .settings import Settings
from .small import FP16, FP32, INT64, Workshop, doubling, network, same


@pytest.fixture
def shop():
    with pretended(Settings()) as double:
        yield Workshop(double.trt)


def node(operator: str, inputs: list[str], **attributes):
    return helper.make_node(operator, inputs, ["y"], name="culprit", **attributes)


def test_networks_have_to_be_strongly_typed_on_10():
    with pretended(Settings("10.3.0")) as double:
        shop = Workshop(double.trt, typed=False)
        assert shop.plan(doubling(2)) is None and "STRONGLY_TYPED" in shop.said
    with pretended(Settings("11.1.0")) as double:
        assert Workshop(double.trt, typed=False).plan(doubling(2))


VECTOR = {"x": (FP16, (4,))}
REFUSED = {
    "an operator of later": (
        network(
            [node("RMSNormalization", ["x", "w"])],
            {"x": (FP16, (2, 4))},
            {"y": (FP16, (2, 4))},
            {"w": np.ones(4, np.float16)},
            opset=20 + 3,
        ),
        ["culprit", "Plugin not found", "opset 23 is newer than 20"],
    ),
    "another domain": (network([node("Gelu", ["x"], domain="com.microsoft")], VECTOR, {"y": (FP16, (4,))}), ["Gelu"]),
    "mixed types": (
        network([node("Mul", ["x", "w"])], VECTOR, {"y": (FP16, (4,))}, {"w": np.ones(4, np.float32)}),
        ["node name: culprit", "inconsistent type tensor(float)"],
    ),
    "a type it does not take": (
        network(
            [node("MatMul", ["x", "w"])],
            {"x": (INT64, (1, 4))},
            {"y": (INT64, (1, 4))},
            {"w": np.ones((4, 4), np.int64)},
        ),
        ["culprit (MatMul): type INT64"],
    ),
    "a scale of another type": (
        network([node("QuantizeLinear", ["x", "w"])], VECTOR, {"y": (3, (4,))}, {"w": np.float32(1)}),
        ["culprit"],
    ),
    "shapes that do not fit": (
        network([node("Add", ["x", "w"])], VECTOR, {"y": (FP16, (4,))}, {"w": np.ones(3, np.float16)}),
        ["shape inference failed"],
    ),
}


def quantised(kind: int, weights: tuple[int, int], scales: tuple[int, ...], zero: int = 0, **attributes) -> bytes:
    """x @ weights, which are dequantised."""
    tensors = [
        helper.make_tensor("w", kind, weights, np.zeros(weights, np.int8).ravel()),
        helper.make_tensor("s", FP16, scales, np.ones(scales, np.float16).ravel()),
        helper.make_tensor("z", kind, scales, np.full(scales, zero, np.int8).ravel()),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["d"], name="scales", **attributes),
        node("MatMul", ["x", "d"]),
    ]
    infos = [helper.make_tensor_value_info(name, FP16, (1, size)) for name, size in zip("xy", weights, strict=True)]
    graph = helper.make_graph(nodes, "small", infos[:1], infos[1:], tensors)
    opsets = [helper.make_opsetid("", 21)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


INT8, INT4 = TensorProto.INT8, TensorProto.INT4
QUANTISED = {
    "blocks of 128": (quantised(INT4, (256, 8), (2, 8), axis=0, block_size=128), None),
    "blocks of 32": (quantised(INT4, (64, 8), (2, 8), axis=0, block_size=32), "blocks are of 64 or 128"),
    "blocks of int8": (quantised(INT8, (256, 8), (2, 8), axis=0, block_size=128), "blocks are of 64 or 128"),
    "a zero point": (quantised(INT4, (256, 8), (2, 8), 1, axis=0, block_size=128), "its zero point is not 0"),
}


@pytest.mark.parametrize("name", QUANTISED)
def test_weights_of_few_bits(name, shop):
    model, text = QUANTISED[name]
    assert (shop.plan(model) is not None) == (text is None) and (text or "") in shop.said


@pytest.mark.parametrize("name", REFUSED)
def test_graphs_that_the_parser_refuses(name, shop):
    model, texts = REFUSED[name]
    assert not shop.parser.parse(model)
    errors = [shop.parser.get_error(index).desc() for index in range(shop.parser.num_errors)]
    for text in texts:
        assert any(text in error for error in errors) and text in shop.said, (text, errors)


def test_a_shape_may_depend_on_an_inputs_shape(shop):
    nodes = [helper.make_node("Shape", ["x"], ["s"], name="shape"), node("Expand", ["w", "s"])]
    model = network(nodes, {"x": (FP16, ("n",))}, {"y": (FP16, ("n",))}, {"w": np.ones(1, np.float16)})
    assert shop.plan(model, {"x": same(4)})


def test_a_shape_may_not_be_an_input(shop):
    model = network([node("Reshape", ["x", "s"])], VECTOR | {"s": (INT64, (2,))}, {"y": (FP16, (2, 2))})
    assert shop.parser.parse(model)
    assert shop.builder.build_serialized_network(shop.network, shop.config) is None
    assert "missing values for shape input tensor s" in shop.said


def test_operators_of_later_are_known_later():
    vector = {"x": (FP16, (2, 4))}
    norm = network(
        [node("RMSNormalization", ["x", "w"])], vector, {"y": (FP16, (2, 4))}, {"w": np.ones(4, np.float16)}, 23
    )
    for version, known in (("10.14.0", False), ("10.15.1", True), ("10.16.2", True), ("11.4.1", True)):
        with pretended(Settings(version)) as double:
            assert (Workshop(double.trt).plan(norm) is not None) == known, version


BAD_PROFILES = {
    "none": ([], "no optimization profile has been defined"),
    "an input left out": ([{}], "x is missing dimensions in profile 0"),
    "a fixed size that differs": ([{"x": same(2, 5)}], "Static dimension mismatch"),
    "another rank": ([{"x": same(2)}], "rank 1 instead of 2"),
}


@pytest.mark.parametrize("name", BAD_PROFILES)
def test_profiles_that_do_not_fit(name, shop):
    profiles, text = BAD_PROFILES[name]
    assert shop.plan(doubling(), *profiles) is None and text in shop.said


def test_profiles_whose_sizes_disagree_inside(shop):
    """Of a mask that should be as wide as two inputs together."""
    nodes = [helper.make_node("Concat", ["a", "b"], ["c"], name="both", axis=0), node("Add", ["c", "mask"])]
    inputs = {"a": (FP32, ("past",)), "b": (FP32, ("sequence",)), "mask": (FP32, ("columns",))}
    model = network(nodes, inputs, {"y": (FP32, ("columns",))})
    good = {"a": same(5), "b": same(3), "mask": same(8)}
    assert shop.plan(model, good, good | {"mask": same(7)}) is None
    assert "kMIN values for profile 1 violate shape constraints" in shop.said


def test_one_name_is_one_size(shop):
    model = network([node("Mul", ["a", "b"])], {n: (FP32, ("n",)) for n in "ab"}, {"y": (FP32, ("n",))})
    assert shop.plan(model, {"a": same(4), "b": same(1)}) is None and "dimension n is 4 and 1" in shop.said


def test_a_timing_cache_of_another_device_is_refused():
    with pretended(Settings()) as double:
        blob = bytes(Workshop(double.trt).config.create_timing_cache(b"").serialize())
    with pretended(Settings(capability=(8, 6))) as double:
        config = Workshop(double.trt).config
        assert not config.set_timing_cache(config.create_timing_cache(blob), False)
        assert config.set_timing_cache(config.create_timing_cache(b""), False)
