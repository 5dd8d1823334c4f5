"""TensorRT's decoder graphs against transformers: every precision, chunks, cache lengths, pieces."""

import numpy as np
import pytest
import torch
from onnx import TensorProto

from mobilevlm.engines.tensorrt.bucketed_decoder import BucketedDecoder
from mobilevlm.engines.tensorrt.rules.check import check
from mobilevlm.errors import UserError
from mobilevlm.export.backends.tensorrt.run import WatchedGraph
from mobilevlm.export.backends.tensorrt.write import save
from mobilevlm.export.precisions import precision, tensorrt_int4
from mobilevlm.export.split.graph import Graph
from mobilevlm.export.split.int8_error import Magnitudes
from mobilevlm.export.verification.stages import HALF_MAX
from mobilevlm.export.verification.verify import VerificationError, require_room
from tests.export.tensorrt_models import ROWS, Model
from tests.export.test_architectures import CASES

NAMES = ("plain", "grouped heads", "heads of 80", "heads wider than the model", "other rope and epsilon")
NAMES += ("tied embeddings",)
CODED = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 2, "num_key_value_heads": 2}
# Prompts and what is said behind them: around pieces of 127 rows, and around cache lengths of 256, 512 and 600.
TALKS = [(1, 1), (2, 1), (126, 1, 1), (127, 1), (128, 2, 1), (254, 1, 1, 1), (256, 1), (257, 130), (300, 1, 211, 1, 1)]
TALKS += [(512, 1, 80, 1), (ROWS - 1, 1), (ROWS,)]


def relative(got: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


def snr(got: np.ndarray, wanted: np.ndarray) -> float:
    return float(10 * np.log10(np.square(wanted).sum() / np.square(got - wanted).sum()))


@pytest.fixture(scope="module", params=[(name, 1) for name in NAMES] + [("grouped heads", 2)], ids=str)
def graphs(request, tmp_path_factory):
    name, pieces = request.param
    model = Model({} if name == "plain" else CASES[name])
    return {kind: model.write(kind, tmp_path_factory.mktemp(kind), pieces) for kind in ("fp16", "fp32")} | {
        "logits": model.logits()
    }


@pytest.mark.parametrize("kind", ["fp16", "fp32"])
def test_every_boundary_gives_transformers_logits(graphs, kind):
    decoder, embeds = graphs[kind].decoder(), graphs[kind].model.embeds[0].numpy()
    for talk in TALKS:
        past = 0
        for rows in talk:
            got = decoder.decode(embeds[past : past + rows], past)
            past += rows
            assert relative(got[0], graphs["logits"][past - 1]) < 3e-5, (talk, past)
            top = decoder.outputs["top_tokens"][0]
            assert top.tolist() == np.argsort(-got[0], kind="stable")[: len(top)].tolist() and len(top) > 1
            assert (decoder.outputs["top_logits"][0] == got[0][top]).all()


def test_what_lies_behind_the_past_is_never_seen(graphs):
    """As after a longer talk: rows of an earlier conversation are still in the cache."""
    decoder, embeds = graphs["fp16"].decoder(), graphs["fp16"].model.embeds[0].numpy()
    for cache in decoder.caches:
        cache[...] = 30.0
    assert relative(decoder.decode(embeds[:11], 0)[0], graphs["logits"][10]) < 3e-5
    assert relative(decoder.decode(embeds[11:12], 11)[0], graphs["logits"][11]) < 3e-5


@pytest.fixture(scope="module")
def coded(tmp_path_factory):
    """A model of whole blocks in each coded precision."""
    model = Model(CODED)
    return {name: model.write(name, tmp_path_factory.mktemp(name), 2) for name in ("int8", "int4")}


@pytest.mark.parametrize("name, least", [("int8", 30), ("int4", 10)])
def test_codes_keep_the_logits(coded, name, least):
    graphs = coded[name]
    decoder, embeds = graphs.decoder(), graphs.model.embeds[0].numpy()
    wanted, got, past = graphs.model.logits(), [], 0
    for rows in (200, *[1] * 8):
        got.append(decoder.decode(embeds[past : past + rows], past)[0])
        past += rows
    assert snr(np.stack(got), wanted[199:208]) > least


def test_int4_weights_are_those_that_the_graph_computes_with(coded):
    """Codes times scales, put into PyTorch: the same logits, so that nothing is lost but by rounding weights."""
    graphs = coded["int4"]
    stored, config, balanced = graphs.weights(), graphs.model.config, {}
    for name, value in stored.items():
        if name.endswith(".codes"):
            scales = stored[name.replace(".codes", ".scales")].astype(np.float32)
            assert scales.shape == (value.shape[0] // 128, value.shape[1])
            value = value.astype(np.float32) * np.repeat(scales, 128, axis=0)
        elif not name.endswith(".weight"):
            continue
        balanced[name.replace(".codes", ".weight")] = torch.from_numpy(np.ascontiguousarray(value.T, np.float32))
    for layer in range(config.num_hidden_layers):
        own = f"model.layers.{layer}.self_attn."
        parts = balanced.pop(f"{own}q_proj.weight").chunk(3)
        balanced |= {f"{own}{part}_proj.weight": one for part, one in zip("qkv", parts, strict=True)}
    balanced["model.embed_tokens.weight"] = graphs.model.tensors["model.embed_tokens.weight"]
    wanted = graphs.model.logits(balanced)
    decoder, embeds = graphs.decoder(), graphs.model.embeds[0].numpy()
    assert relative(decoder.decode(embeds[:150], 0)[0], wanted[149]) < 1e-4


@pytest.mark.parametrize("name", ["int8", "int4"])
def test_what_each_version_takes(coded, name):
    graphs = coded[name]
    for version in ("10.3", "10.3.0.30", "10.16.2", "11.4.1"):
        assert check(graphs.proto(), version) == []


def test_int8_is_in_linear_layers_alone_and_only_where_it_fits(coded):
    graph = coded["int8"].proto().graph
    counts = {kind: sum(node.op_type == kind for node in graph.node) for kind in ("QuantizeLinear", "MatMul")}
    # q, k and v are one; gate and up read the same codes; the head's input nobody has looked at.
    assert counts["QuantizeLinear"] == 4
    kinds = {one.name: one.data_type for one in graph.initializer}
    assert kinds["model.layers.0.self_attn.q_proj.codes"] == TensorProto.INT8
    assert "lm_head.codes" not in kinds


@pytest.mark.parametrize("size", [1.0, 1e-3])
def test_an_int8_layer_is_what_its_numbers_say(size, tmp_path):
    """Against the formula, with float16 scales: small weights keep theirs."""
    generator = np.random.default_rng(2)
    weight = generator.standard_normal((48, 64)).astype(np.float32) * size * np.exp(generator.normal(0, 1, (48, 1)))
    rows = generator.standard_normal((1, 9, 64)).astype(np.float32)
    seen = Magnitudes()
    seen.add(torch.from_numpy(rows))
    tensors = {"layer.weight": torch.from_numpy(weight.astype(np.float32))}
    options = {"dtype": np.float16, "magnitudes": lambda name: seen, "opset": 20}
    with Graph("test", tensors, precision("tensorrt_int8"), tmp_path / "w.weights", **options) as graph:
        graph.input("x", graph.kind, [1, "rows", 64])
        graph.op("Identity", graph.linear("x", "layer"), out="y")
        graph.output("y", graph.kind, [1, "rows", 48])
        save(graph, tmp_path, "test")
    got = WatchedGraph(tmp_path / "test.onnx").run({"x": rows})["y"]
    step = np.float32(np.float16(np.abs(rows).max() / 127))
    scales = np.maximum(np.abs(weight).max(1) / 127, np.finfo(np.float16).tiny).astype(np.float16).astype(np.float32)
    codes = np.rint(weight / scales[:, None]).clip(-127, 127)
    wanted = np.rint(rows / step).clip(-128, 127) * step @ (codes * scales[:, None]).T
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5 * size)
    assert snr(got, rows @ weight.T) > 35


def test_int4_scales_are_float16s_own_before_codes_are_chosen():
    blocks = torch.randn(64, 128, generator=torch.Generator().manual_seed(1)) * 1e-4
    scales, _ = tensorrt_int4.half_scales(blocks)
    assert torch.equal(scales, scales.half().float()) and scales.min() >= tensorrt_int4.SMALLEST_SCALE


def test_values_beyond_float16_are_found_and_their_node_is_named(tmp_path):
    model = Model({})
    model.tensors["model.layers.1.mlp.down_proj.weight"] *= 3e4
    graphs = model.write("fp16", tmp_path)
    graph = WatchedGraph(graphs.path("decoder.0"))
    BucketedDecoder(model.config, [graph.run], [range(2)], ROWS).decode(model.embeds[0, :5].numpy(), 0)
    peak = graph.peak()
    node = next(node for node in graphs.proto().graph.node if node.name == peak.node)
    assert node.op_type in ("MatMul", "Add") and HALF_MAX / 4 < peak.largest and not peak.fits
    with pytest.raises(VerificationError, match=f"decoder.0, node {peak.node}.*--precision decoder=fp32"):
        require_room([peak])


def test_weights_beyond_float16_are_refused(tmp_path):
    model = Model({})
    model.tensors["model.layers.0.mlp.up_proj.weight"][3, 3] = 7e4
    with pytest.raises(UserError, match=r"up_proj.weight holds 70000, float16 ends at 65504.*--precision decoder=fp32"):
        model.write("fp16", tmp_path)
