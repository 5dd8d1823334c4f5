"""Bundles for an Arm CPU, built and run here: PyTorch's text, int4 as KleidiAI reads it, what XNNPACK would take."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto

from mobilevlm import MobileVLM
from mobilevlm.engines import stages
from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.targets import TARGETS
from mobilevlm.errors import UserError
from mobilevlm.export.backends.ort.run import OrtStages
from mobilevlm.export.precision_option import parse_precision
from mobilevlm.export.precisions import int4, int4_symmetric, precision
from mobilevlm.export.split.graph import Graph
from mobilevlm.image import ImageSpec, load_image, preprocess
from mobilevlm.model.answer import answer
from mobilevlm.runtime import Session
from tests.conftest import BUILD, CHAT, DEMO, ROOT, run
from tests.runtime.prefix_talk import compare

PICTURE = ROOT / "assets" / "shapes.png"
QUESTIONS = ("What color is the circle?", "How many shapes are there?", "Is the star to the left of the square?")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """The demo model in float32, and as the target has it by default."""
    root = tmp_path_factory.mktemp("arm")
    for name, options in (("fp32", ["--precision", "fp32"]), ("default", [])):
        done = run(BUILD, "--model", DEMO, "--target", "snapdragon-cpu", *options, "--out", root / name)
        assert done.returncode == 0, done.stderr
    return root


def said(engine):
    """Texts and tokens."""
    with Session(engine) as session:
        replies = [session.chat(question, PICTURE, max_new_tokens=24) for question in QUESTIONS]
        return [("".join(reply), reply.tokens) for reply in replies]


def test_float32_says_word_for_word_what_the_host_and_pytorch_say(bundles, demo_fp32):
    ours = said(bundles / "fp32")
    assert ours == said(demo_fp32)
    model = MobileVLM.from_pretrained(DEMO)
    assert [text for text, _ in ours] == [answer(model, one, PICTURE, max_new_tokens=24) for one in QUESTIONS]


def test_the_default_says_what_its_graphs_say_by_themselves(bundles):
    """Against the stages run without the runtime: no arena, no binding kept, no optimisation of the graphs."""
    bundle = Bundle.open(bundles / "default")
    assert bundle.manifest.precision == {"vision": "int8", "decoder": "int4_symmetric"}
    runs = OrtStages(bundle.directory, bundle.config, bundle.manifest.precision, bundle.manifest.max_context)
    spec = ImageSpec.of(bundle.config)
    embeds = runs.encode_image(preprocess(load_image(PICTURE), spec))[0]
    with Session(bundle.directory) as session:
        reply = session.chat(QUESTIONS[0], PICTURE, max_new_tokens=24)
        assert "".join(reply) == "The circle is red."
        image = session.decoder.encode_image(preprocess(load_image(PICTURE), spec))
        np.testing.assert_allclose(image, embeds, atol=0.02 * np.abs(embeds).max())
        rows = np.concatenate([image, session.decoder.embed([5]), session.decoder.embed([7])])
        logits = session.decoder.decode(rows, past=0)
        np.testing.assert_allclose(logits, runs.decode(rows, past=0)[0], atol=0.02 * np.abs(logits).max())


def test_interleaved_conversations_say_what_each_says_alone(bundles):
    compare(bundles / "default")


def test_xnnpack_is_missed_aloud_where_a_stage_would_use_it(bundles):
    words = ["--image", PICTURE, "--prompt", QUESTIONS[0]]
    missed, quiet = (run(CHAT, "--engine", bundles / name, *words) for name in ("fp32", "default"))
    assert missed.stdout == quiet.stdout == "The circle is red.\n"
    assert missed.stderr.count("has no XNNPACK") == 1 and "XNNPACK" not in quiet.stderr


def test_graphs_are_plain(bundles):
    """Nothing in them is laid out for the CPU that built them: no `prepacked_0` beside a weight."""
    for name in ("vision", "decoder"):
        model = onnx.load(bundles / "default" / stages.onnx_file(name), load_external_data=False)
        keys = {entry.key for tensor in model.graph.initializer for entry in tensor.external_data}
        assert keys == {"location", "offset", "length"}


def test_a_pc_without_vnni_computes_what_the_device_does(bundles):
    """Issue 25, "a build that verifies the wrong machine": no int8 product saturates the 16 bits of such a PC's sums.

    Public: microsoft/onnxruntime issues 6004 and 5849 (other answers on a CPU without VNNI).
    """
    model = onnx.load(bundles / "default" / "vision.onnx")
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    products = [stored[node.input[1]] for node in model.graph.node if node.op_type == "MatMulIntegerToFloat"]
    assert products and {values.dtype for values in products} == {np.dtype(np.int8)}
    for values in products:
        pairs = np.pad(values.astype(int), ((0, len(values) % 2), (0, 0))).reshape(-1, 2, values.shape[1])
        assert max(side.sum(1).max() for side in (pairs.clip(min=0), (-pairs).clip(min=0))) <= 32767 // 255


def test_every_int4_layer_is_one_that_kleidiai_takes(bundles):
    """`UseKleidiAI` of onnxruntime/core/mlas/lib/qnbitgemm_kernel_neon.cpp, on the graph of the decoder."""
    model = onnx.load(bundles / "default" / "decoder.onnx", load_external_data=False)
    layers = [node for node in model.graph.node if node.op_type == "MatMulNBits"]
    assert len(layers) == 31
    for node in layers:
        values = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        assert len(node.input) == 3  # no zero points
        assert values["block_size"] % 32 == 0 and values["K"] % values["block_size"] == 0
        assert values["bits"] == 4 and values["accuracy_level"] == 4


def test_the_report_says_what_xnnpack_takes(bundles, demo_fp32):
    texts = {name: (bundles / name / stages.REPORT_FILE).read_text() for name in ("fp32", "default")}
    assert "| vision | Gemm | 38 | |" in texts["fp32"] and "| vision | Conv | 2 | |" in texts["fp32"]
    assert "| vision | all | 40 | 127 | | 91.8% on XNNPACK |" in texts["fp32"]
    assert "| decoder | MatMul | | 31 | it has more than two dimensions |" in texts["fp32"]
    assert "| decoder | all | 0 |" in texts["default"] and "*not measured*" in texts["default"]
    assert "XNNPACK" not in (demo_fp32 / stages.REPORT_FILE).read_text()


def heavy_tailed(rows, columns):
    generator = np.random.default_rng(7)
    return (0.02 * generator.standard_t(4, (rows, columns))).astype(np.float32)


def linear(name, weight, x, directory):
    """One layer through ONNX Runtime."""
    with Graph("test", {"layer.weight": torch.from_numpy(weight)}, precision(name), directory / "w.weights") as graph:
        graph.input("x", TensorProto.FLOAT, [1, "rows", weight.shape[1]])
        graph.op("Identity", graph.linear("x", "layer"), out="y")
        graph.output("y", TensorProto.FLOAT, [1, "rows", weight.shape[0]])
        graph.save(directory / "w.onnx")
    return ort.InferenceSession(str(directory / "w.onnx")).run(None, {"x": x[None]})[0][0]


@pytest.mark.parametrize("chosen", [False, True])
def test_symmetric_int4_is_what_the_operator_reads_and_as_exact_as_int4(chosen, tmp_path):
    """Unpacked as MatMulNBits's documentation says, and through its kernel; GPTQ only has to be better on its data."""
    weight = heavy_tailed(64, 256)
    x = np.random.default_rng(1).standard_normal((300, 256)).astype(np.float32)
    moments = torch.from_numpy(x.T @ x) if chosen else None
    codes, scales = int4_symmetric.quantize(weight.T, moments)
    assert codes.shape == (64, 8, 16) and codes.dtype == np.uint8 and scales.shape == (64, 8)
    values = np.stack([codes & 15, codes >> 4], axis=-1).reshape(64, 8, 32).astype(np.float32) - 8
    read = (values * scales[..., None]).reshape(64, 256)
    error = np.square(x @ (read - weight).T).mean()
    if chosen:
        plain, plain_scales = int4_symmetric.quantize(weight.T)
        nearest = np.stack([plain & 15, plain >> 4], axis=-1).reshape(64, 8, 32).astype(np.float32) - 8
        other = (nearest * plain_scales[..., None]).reshape(64, 256)
        assert error < 0.9 * np.square(x @ (other - weight).T).mean()
        return
    y = linear("int4_symmetric", weight, x, tmp_path)
    assert np.abs(y - x @ read.T).mean() < 0.01 * np.abs(y).mean()  # activations become int8
    codes, scales, zeros = int4.quantize(weight)
    with_points = linear("int4", weight, x, tmp_path)
    exact = x @ weight.T
    assert np.abs(y - exact).mean() < 1.05 * np.abs(with_points - exact).mean()


def test_a_layer_of_no_whole_blocks_takes_the_other_int4(tmp_path):
    weight = heavy_tailed(64, 80)
    x = np.random.default_rng(1).standard_normal((7, 80)).astype(np.float32)
    np.testing.assert_array_equal(linear("int4_symmetric", weight, x, tmp_path), linear("int4", weight, x, tmp_path))


@pytest.mark.parametrize(
    "text, message",
    [
        ("int4", "'int4' is not available for target snapdragon-cpu; it has fp32, fp16, int8, int4_symmetric"),
        ("prefill=int8", "snapdragon-cpu has no prefill of its own"),
        ("vision=int4_symmetric", "use vision=int8$"),
    ],
)
def test_precisions_it_does_not_have(text, message):
    with pytest.raises(UserError, match=message):
        parse_precision(text, TARGETS["snapdragon-cpu"])
    assert parse_precision("int4_symmetric", TARGETS["snapdragon-cpu"]) == {
        "vision": "int8",
        "decoder": "int4_symmetric",
    }
