"""NVIDIA's own parser and builder on every TensorRT graph of the demo model: what it makes of attention and weights."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mobilevlm.engines import judge as command
from mobilevlm.engines.bundle import Bundle, BundleError
from mobilevlm.engines.stages import DECODER, REPORT_FILE, VISION, weights_file
from mobilevlm.engines.tensorrt.counted import Counted, read_counted
from mobilevlm.engines.tensorrt.record import parts
from mobilevlm.engines.tensorrt.rtx import judge
from mobilevlm.errors import UserError
from mobilevlm.export.backends.tensorrt import report as report_tensorrt
from mobilevlm.jetson.roofline import decoder_bytes
from tests.conftest import DEMO, build_here, needs_rtx

pytestmark = needs_rtx
PRECISIONS = ("fp32", "fp16", "int8", "int4")
LAYERS = 6
MOST_TOKEN_KERNELS = 60  # 93 before past and new rows were joined


@pytest.fixture(scope="module", params=[*((name, 1) for name in PRECISIONS), ("fp16", 3)], ids=str)
def bundle(request, tmp_path_factory) -> Bundle:
    """The demo model for a GPU, in a precision and so many pieces."""
    precision, pieces = request.param
    out = tmp_path_factory.mktemp("cuda") / f"{precision}-{pieces}"
    build_here("--model", DEMO, "--target", "cuda", "--blocks", str(pieces), precision=precision, out=out)
    return Bundle.open(out)


@pytest.fixture(scope="module")
def judged(bundle):
    return dict(command.judgements(bundle))


def test_every_graph_is_built(judged):
    assert {part: one.problems for part, one in judged.items() if one.problems} == {}
    for one in judged.values():
        assert [line for line in one.warnings if "Int64 binding" not in line] == []


def test_attention_is_one_kernel_and_a_token_copies_no_cache(bundle, judged):
    is_half = bundle.manifest.precision["decoder"] != "fp32"
    total = 0
    for part, one in judged.items():
        if part == VISION:
            (picture,) = command.counts(bundle, part, one)
            # Of float32 the builder has such kernels for a token alone.
            assert picture.attention == (LAYERS if is_half else 0)
            continue
        prompt, token = command.counts(bundle, part, one)
        layers = len(range(*bundle.manifest.parts[part]))
        assert token.attention == layers and token.cache_copies == 0
        assert prompt.attention == (layers if is_half else 0)
        total += token.kernels
    assert total <= MOST_TOKEN_KERNELS + 4 * (len(judged) - 2)


READ_AS = {"fp32": "Float", "fp16": "Half", "int8": "Int8", "int4": "Int4"}
LINEARS = {VISION: 4, DECODER: 4}  # of a layer: query, key and value, and gate and up, are one product each


def test_weights_are_read_in_the_type_that_was_asked_for_and_norms_are_float32(bundle, judged):
    for part, one in judged.items():
        stage = VISION if part == VISION else DECODER
        layers = LAYERS if part == VISION else len(range(*bundle.manifest.parts[part]))
        for found in command.counts(bundle, part, one):
            if bundle.manifest.precision[DECODER] != "fp32":
                assert found.uncast_norms == 0
            assert found.products[READ_AS[bundle.manifest.precision[stage]]] >= LINEARS[stage] * layers, part


def test_a_token_moves_its_weights_and_cache_and_little_else(bundle, judged):
    """In bytes that its kernels name: a second reading of the weights, or of a cache, would be seen."""
    for part, one in judged.items():
        if part == VISION:
            continue
        _, token = command.counts(bundle, part, one)
        config, element = bundle.config, 4 if bundle.manifest.precision[DECODER] == "fp32" else 2
        width = config.num_key_value_heads * config.head_dim
        cache = 2 * len(range(*bundle.manifest.parts[part])) * bundle.manifest.max_context * width * element
        assert 1 <= token.moved / (one.weight_bytes + cache) <= 1.15, part


def test_weights_are_in_memory_once(bundle, judged):
    for part, one in judged.items():
        assert 0 < one.weight_bytes <= 1.05 * bundle.path(weights_file(part)).stat().st_size, part


def test_what_is_counted_is_what_the_table_says(bundle, judged, tmp_path):
    """Written for computing with: every profile, whose longest are the table's, and none below what has to be read."""
    counted = Counted(
        "demo", {}, "cuda", {}, "", "", tuple(sum((command.calls(bundle, *one) for one in judged.items()), []))
    )
    decoder = {part: one for part, one in judged.items() if part != VISION}
    tokens = [command.counts(bundle, part, one)[1] for part, one in decoder.items()]
    wanted = sum(one.kernels for one in tokens), sum(one.moved for one in tokens)
    assert counted.token(bundle.manifest.max_context) == wanted
    shortest = counted.token(1)
    assert shortest[1] < wanted[1] and shortest[1] >= decoder_bytes(bundle.config, bundle.manifest.forms[DECODER])
    assert (
        counted.prompt(100)[1] > shortest[1]
        and counted.image()[0] == command.counts(bundle, VISION, judged[VISION])[0].kernels
    )
    counted.write(tmp_path / "counted.json")
    assert read_counted(tmp_path / "counted.json") == counted


def test_the_command_prints_a_row_for_each_graph(bundle, capsys):
    command.main([str(bundle.directory)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 1 + len(bundle.manifest.parts) and all("built" in line for line in lines[2:])
    assert len({line.count("|") for line in lines}) == 1


# What it says of parts that it does not build for Turing.
NOT_FOR_TURING = {
    "fp32": (["vision", "decoder.0"], "FP32 GEMM is not supported"),
    "int4": (["decoder.0"], "HW-specific datatypes: int4"),
}


def test_each_capability_has_rows_of_its_own(bundle, capsys):
    """Turing has neither float32 products nor int4; whoever has other GPUs still sees theirs."""
    refused, words = NOT_FOR_TURING.get(bundle.manifest.precision[DECODER], ([], ""))
    with pytest.raises(SystemExit) if refused else nullcontext() as ended:
        command.main([str(bundle.directory), "--capability", "all", "SM75"])
    said = capsys.readouterr()
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in said.out.splitlines()[2:]]
    assert [row[:2] for row in rows] == [[part, gpu] for gpu in ("all", "SM75") for part in parts(bundle)]
    assert [part for part, _, outcome in rows if outcome.endswith("refused")] == refused
    assert all(gpu == "SM75" for _, gpu, outcome in rows if outcome.endswith("refused"))
    if refused:
        assert ended.value.code == 2 and said.err.count(" for SM75: ") == len(refused) and words in said.err


def test_what_it_refuses_is_said_in_its_words(tmp_path):
    """An operator that it does not know, and a capability."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (4,)) for name in ("x", "y")]
    model = helper.make_model(
        helper.make_graph([helper.make_node("Unknown", ["x"], ["y"], name="it")], "g", value[:1], value[1:]),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    onnx.save(model, tmp_path / "graph.onnx")
    (problem,) = judge(tmp_path / "graph.onnx", []).problems
    assert problem.startswith("it: ") and "Plugin not found" in problem
    model.graph.node[0].op_type = "Relu"
    onnx.save(model, tmp_path / "graph.onnx")
    with pytest.raises(UserError, match="does not know SM1; it knows .*SM86"):
        judge(tmp_path / "graph.onnx", [], "SM1")
    assert judge(tmp_path / "graph.onnx", []).problems == []


def test_a_cache_that_is_copied_is_seen(tmp_path):
    """Transposed for a product of its own, as it was: the count is not blind."""
    from mobilevlm.engines.tensorrt.listing import count

    rows, heads, dim = 2048, 4, 64
    value = helper.make_tensor_value_info
    inputs = [value("past", TensorProto.FLOAT16, (1, rows, heads, dim))]
    outputs = [value("y", TensorProto.FLOAT16, (1, heads, dim, rows))]
    nodes = [helper.make_node("Transpose", ["past"], ["turned"], perm=[0, 2, 3, 1], name="turn")]
    nodes.append(helper.make_node("Mul", ["turned", "two"], ["y"], name="twice"))
    two = onnx.numpy_helper.from_array(np.array(2, np.float16), "two")
    graph = helper.make_graph(nodes, "g", inputs, outputs, [two])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "graph.onnx"
    )
    found = count(judge(tmp_path / "graph.onnx", []).kernels, 0, rows * heads * dim)
    assert found.attention == 0 and found.cache_copies >= 1


def test_bundles_of_other_targets_have_no_graphs_for_it(demo_fp32):
    with pytest.raises(BundleError, match="target host, which has no TensorRT graphs"):
        list(command.judgements(Bundle.open(demo_fp32)))


def test_a_build_can_ask_it_and_says_so_in_the_report(tmp_path, monkeypatch):
    words = ("--model", DEMO, "--target", "orin", "--max-context", "512", "--judge")
    bundle = Bundle.open(build_here(*words, precision="fp16", out=tmp_path / "orin"))
    report = bundle.path(REPORT_FILE).read_text()
    assert "| vision | SM86 | 1.7.1" in report and "| decoder.0 | SM86 | 1.7.1" in report
    # It has no int4 for Turing: what it refuses is no bundle.
    monkeypatch.setattr(report_tensorrt, "table", partial(command.table, capabilities=["SM75"]))
    with pytest.raises(UserError, match="NVIDIA's builder refuses decoder.0 for SM75: .*int4"):
        build_here(*words, precision="int4", out=tmp_path / "turing")
    assert not (tmp_path / "turing").exists()
    with pytest.raises(UserError, match="--judge is for targets on TensorRT, and this is host"):
        build_here("--model", DEMO, "--judge", out=tmp_path / "host")
