"""Operations and bytes against the published figures, and against what ONNX Runtime executes and a bundle holds."""

import json
from dataclasses import replace
from math import prod

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto

from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.stages import DECODER, VISION, onnx_file
from mobilevlm.presets import PRESETS
from mobilevlm.runtime.bench.onnx_file import matmul_model, weight_bytes
from mobilevlm.runtime.bench.plan import Plan
from mobilevlm.runtime.bench.timed_bundle import TimedBundle
from mobilevlm.runtime.bench.workload import decode_bytes, decoder_operations, vision_operations
from tests.conftest import build_here
from tests.export.test_architectures import MODEL, write_checkpoint
from tests.export.test_architectures import VISION as TOWER

ROWS = 50


@pytest.mark.parametrize("preset, giga", [("mobilellama_1.4b", 507), ("mobilellama_2.7b", 1042)])
def test_prefill_is_the_published_figure_but_for_the_rows_nobody_reads(preset, giga):
    """Published: 204 rows through all layers. Here all but the last row end in the last layer's attention."""
    config = PRESETS[preset]
    unread = 2 * 203 * (config.hidden_size**2 + 3 * config.hidden_size * config.intermediate_size)
    assert decoder_operations(config, 204) + unread == pytest.approx(giga * 1e9, rel=0.002)


def test_one_token_multiplies_by_every_weight():
    assert decoder_operations(PRESETS["mobilellama_1.4b"], 1) / 2 == pytest.approx(1298.7e6, rel=0.001)


def test_prefill_in_two_parts_costs_the_attention_of_both():
    """But for the logits of the first part, and its last row in the last layer."""
    config = PRESETS["mobilellama_1.4b"]
    parts = decoder_operations(config, 100) + decoder_operations(config, 104, past=100)
    again = 2 * config.hidden_size * (config.hidden_size + 3 * config.intermediate_size + config.vocab_size)
    assert parts - again == decoder_operations(config, 204)


def test_vision_is_the_published_figure():
    """373 GFLOP: 23 of CLIP's 24 layers and LDPv2, whose second linear runs here on pooled rows."""
    config = PRESETS["mobilevlm_v2_1.7b"]
    unpooled = 2 * (576 - 144) * config.hidden_size**2
    assert vision_operations(config) + unpooled == pytest.approx(373e9, rel=0.002)
    assert vision_operations(config) == pytest.approx(373e9, rel=0.01)


CASES = {
    "ldpnetv2": {},
    "ldpnet on an odd grid": {"mm_projector_type": "ldpnet", "vision": replace(TOWER, image_size=98)},
    "linear, class token": {"mm_projector_type": "linear", "mm_vision_select_feature": "cls_patch"},
    "mlp, last layer": {"mm_projector_type": "mlp3x_gelu", "mm_vision_select_layer": -1},
    "grouped heads, wider than the model": {"num_key_value_heads": 2, "head_dim": 32},
    "text only": {"vision": None, "mm_vision_tower": None},
}


@pytest.fixture(params=CASES)
def case(request, tmp_path) -> Bundle:
    config = replace(MODEL, **({"head_dim": 0} | CASES[request.param]))
    write_checkpoint(config, tmp_path / "model")
    build_here("--model", tmp_path / "model", out=tmp_path / "bundle")
    return Bundle.open(tmp_path / "bundle")


def test_operations_are_those_executed(case, tmp_path):
    """Counted from the shapes in ONNX Runtime's own record of one picture and one prompt."""
    rows = ROWS + case.manifest.num_image_tokens
    subject = TimedBundle(case.directory, Plan(rows, 1, (rows,)))
    (tmp_path / "profile").mkdir()
    subject.load(tmp_path / "profile")
    subject.question()
    subject.close()
    executed = [count(json.loads(path.read_text())) for path in (tmp_path / "profile").iterdir()]
    expected = [decoder_operations(case.config, rows)]
    if case.has_vision:
        expected.append(vision_operations(case.config))
    assert sorted(executed) == sorted(expected)


def count(events) -> int:
    """Operations of the matrix products in a record, without depthwise convolutions, pooling and squeeze-excite."""
    nodes = [event["args"] for event in events if event.get("cat") == "Node"]
    is_vision = any(node["op_name"] == "Conv" for node in nodes)
    total = 0
    for node in nodes:
        given, made = (
            [shape for of in node[f"{end}_type_shape"] for shape in of.values()] for end in ("input", "output")
        )
        if node["op_name"] in ("MatMul", "Gemm", "FusedMatMul"):
            pools = len(given[0]) == 3 and given[-1][-1:] == [144] == made[0][-1:]  # channels times a constant of means
            squeezed = is_vision and prod(given[0][:-1]) == 1
            total += 0 if pools or squeezed else 2 * prod(made[0]) * given[0][-1]
        elif node["op_name"] == "Conv" and given[1][1] == 3:
            total += 2 * prod(made[0]) * prod(given[1][1:])
        elif node["op_name"] == "MultiHeadAttention":
            total += 4 * given[0][1] ** 2 * given[0][2]
        elif node["op_name"] == "GroupQueryAttention":
            total += sum(4 * seen * made[0][2] for seen in range(1, given[0][1] + 1))
    return total


def onnx_bytes(path) -> int:
    """What `weight_bytes` says, by the onnx package."""
    item_bytes = {TensorProto.FLOAT: 4, TensorProto.FLOAT16: 4, TensorProto.INT64: 8}
    graph = onnx.load(path, load_external_data=False).graph
    return sum(prod(x.dims) * item_bytes[x.data_type] for x in graph.initializer if not x.name.startswith("rope."))


@pytest.mark.parametrize("stage", [VISION, DECODER])
def test_weights_are_those_in_the_graph(stage, bundle):
    path = bundle / onnx_file(stage)
    assert weight_bytes(path) == onnx_bytes(path)
    in_files = sum(file.stat().st_size for file in bundle.glob(f"{stage}.weights"))
    assert weight_bytes(path) == pytest.approx(in_files, rel=0.5)  # which aligns small weights to pages


def test_half_precision_weights_count_as_they_lie_in_memory(tmp_path):
    weight = np.ones((300, 200), np.float16)
    node = onnx.helper.make_node("Identity", ["weight"], ["y"])
    y = onnx.helper.make_tensor_value_info("y", TensorProto.FLOAT16, [300, 200])
    graph = onnx.helper.make_graph([node], "half", [], [y], [onnx.numpy_helper.from_array(weight, "weight")])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "half.onnx")
    assert weight_bytes(tmp_path / "half.onnx") == 4 * 300 * 200


def test_weights_laid_out_beforehand_count_once(bundle, tmp_path):
    """ONNX Runtime writes a graph again with its weights twice, as they were and as its kernels read them."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "packed.onnx")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    for key, value in (
        ("optimized_model_external_initializers_file_name", "packed.weights"),
        ("optimized_model_external_initializers_min_size_in_bytes", "1024"),
        ("save_external_prepacked_constant_initializers", "1"),
    ):
        options.add_session_config_entry(f"session.{key}", value)
    ort.InferenceSession(bundle / onnx_file(DECODER), options)
    once = weight_bytes(bundle / onnx_file(DECODER))
    assert (tmp_path / "packed.weights").stat().st_size > 1.5 * once
    assert weight_bytes(tmp_path / "packed.onnx") == once


def test_a_step_also_reads_the_kv_cache(bundle):
    opened = Bundle.open(bundle)
    config = opened.config
    row = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 4
    assert decode_bytes(opened, 0) == weight_bytes(bundle / onnx_file(DECODER))
    assert decode_bytes(opened, 100) - decode_bytes(opened, 0) == 100 * row


@pytest.mark.parametrize("operator, x, weight", [("MatMul", np.float32, np.float32), ("MatMulInteger", "u1", "i1")])
def test_written_models_are_onnx_and_multiply(operator, x, weight):
    draws = np.random.default_rng(0)
    left, right = draws.integers(0, 100, (7, 300)).astype(x), draws.integers(-100, 100, (300, 5)).astype(weight)
    model = matmul_model(operator, 7, right)
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    (found,) = ort.InferenceSession(model).run(None, {"x": left})
    assert np.array_equal(found, left.astype(int) @ right.astype(int))
