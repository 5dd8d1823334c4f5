"""int8 and int4: weights against other quantisers, stages against float32, outliers against none."""

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto
from onnxruntime.capi._pybind_state import quantize_matmul_4bits
from safetensors.torch import load_file, save_file

from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.export.lowerings import ort as ort_lowering
from mobilevlm.export.precisions import int4, precision
from mobilevlm.export.split.graph import Graph
from mobilevlm.runtime import Session
from tests.conftest import DEMO, HOST_DEFAULT, build, demo_host
from tests.export.outliers import with_outliers

DEFAULT = HOST_DEFAULT  # whose kv cache is int8
AMX = "vision=int8_amx,prefill=int8_amx,decoder=int4"  # the default where the CPU has AMX
QUANTIZED = ("int8", "int4", DEFAULT, AMX)


def heavy_tailed(rows: int, columns: int) -> np.ndarray:
    """Weights with channels and single values that stand out."""
    generator = np.random.default_rng(7)
    weight = generator.standard_t(4, (rows, columns)) * np.exp(generator.normal(0, 0.3, (rows, 1)))
    return (0.02 * weight).astype(np.float32)


def linear(name: str, weight: np.ndarray, x: np.ndarray, directory: Path) -> np.ndarray:
    """One layer through ONNX Runtime."""
    tensors = {"layer.weight": torch.from_numpy(weight)}
    with Graph("test", tensors, precision(name), directory / f"{name}.weights") as graph:
        graph.input("x", TensorProto.FLOAT, [1, "rows", weight.shape[1]])
        graph.op("Identity", graph.linear("x", "layer"), out="y")
        graph.output("y", TensorProto.FLOAT, [1, "rows", weight.shape[0]])
        graph.save(directory / f"{name}.onnx")
    session = ort.InferenceSession(str(directory / f"{name}.onnx"), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x[None]})[0][0]


def unpacked(codes: np.ndarray, scales: np.ndarray, zeros: np.ndarray, columns: int) -> np.ndarray:
    """What MatMulNBits's documentation says the weights are."""
    rows, blocks = scales.shape
    values = np.stack([codes & 15, codes >> 4], axis=-1).reshape(rows, blocks, -1).astype(np.float32)
    points = np.stack([zeros & 15, zeros >> 4], axis=-1).reshape(rows, -1)[:, :blocks, None]
    return ((values - points) * scales[..., None]).reshape(rows, -1)[:, :columns]


@pytest.mark.parametrize("rows, columns", [(64, 80), (48, 128), (300, 768), (16, 2000)])
def test_int4_is_what_the_operator_reads_and_closer_than_plain_rounding(rows, columns, tmp_path):
    """Against ONNX Runtime's own quantiser of the same format, and through its kernel."""
    weight = heavy_tailed(rows, columns)
    ours = unpacked(*int4.quantize(weight), columns)
    blocks = -(-columns // int4.BLOCK)
    codes = np.zeros((rows, blocks, int4.BLOCK // 2), np.uint8)
    scales, zeros = np.zeros((rows, blocks), np.float32), np.zeros((rows, -(-blocks // 2)), np.uint8)
    plain = np.ascontiguousarray(weight.T)
    quantize_matmul_4bits(codes, plain, scales.reshape(-1), zeros.reshape(-1), int4.BLOCK, rows, columns, False)
    theirs = unpacked(codes, scales, zeros, columns)
    error, rounded = (np.square(weight - read).mean() for read in (ours, theirs))
    assert error < 0.97 * rounded < 0.05 * np.square(weight).mean()
    x = np.random.default_rng(1).standard_normal((7, columns)).astype(np.float32)
    y = linear("int4", weight, x, tmp_path)
    expected = x @ ours.T  # what is left is the rounding of activations to int8
    assert np.abs(y - expected).mean() < 0.01 * np.abs(expected).mean()


def test_blocks_of_zeros_and_of_one_sign_stay_exact():
    weight = np.zeros((3, 2 * int4.BLOCK), np.float32)
    weight[1, :] = np.tile(np.arange(16, dtype=np.float32), 16)
    weight[2, : int4.BLOCK] = -weight[1, : int4.BLOCK]
    np.testing.assert_allclose(unpacked(*int4.quantize(weight), weight.shape[1]), weight, atol=1e-5)


@pytest.mark.parametrize("name", ["int8", "int8_amx"])
def test_int8_keeps_small_tokens_beside_a_massive_one(name, tmp_path):
    """With one scale for all rows a token of a thousand times the size would leave the others nothing."""
    weight = heavy_tailed(256, 512)
    x = np.random.default_rng(2).standard_normal((9, 512)).astype(np.float32)
    x[0] *= 1000
    x[5] = 0
    y, expected = linear(name, weight, x, tmp_path), x @ weight.T
    assert not y[5].any()
    for row in (0, *range(1, 5), *range(6, 9)):
        assert np.abs(y[row] - expected[row]).mean() < 0.03 * np.abs(expected[row]).mean()


@pytest.mark.parametrize("pushed", [-3.0, 0.0, 9.0])
def test_rows_of_quick_gelu_have_the_steps_of_any_rows(pushed, tmp_path):
    """Their lowest value is known, and only the highest is looked for: the same codes, whichever is larger."""
    weight = heavy_tailed(64, 96)
    x = np.random.default_rng(5).standard_normal((1, 7, 96)).astype(np.float32) * 2 + pushed
    found = {}
    for known in (True, False):
        with Graph("test", {"layer.weight": torch.from_numpy(weight)}, precision("int8"), tmp_path / "w") as graph:
            activated = ort_lowering.quick_gelu(graph, graph.input("x", TensorProto.FLOAT, [1, "rows", 96]))
            rows = activated if known else graph.op("Identity", activated)
            graph.op("Identity", graph.linear(rows, "layer"), out="y")
            graph.output("y", TensorProto.FLOAT, [1, "rows", 64])
            graph.save(tmp_path / "stage.onnx")
        session = ort.InferenceSession(str(tmp_path / "stage.onnx"), providers=["CPUExecutionProvider"])
        found[known] = session.run(None, {"x": x})[0]
    expected = x / (1 + np.exp(-1.702 * x)) @ weight.T
    assert np.abs(found[True] - expected).mean() < 0.03 * np.abs(expected).mean()
    # At -3 the lowest is the larger one in most rows; no value need be exactly there.
    assert np.abs(found[True] - found[False]).max() <= (0.01 * np.abs(expected).max() if pushed < 0 else 0)


@pytest.fixture(scope="module")
def quantized(tmp_path_factory) -> dict[tuple[str, str], Path]:
    """Bundles of the demo model as it is and with outliers, by (weights, precision)."""
    root = tmp_path_factory.mktemp("quantized")
    model = root / "outliers"
    model.mkdir()
    for path in DEMO.iterdir():
        if path.name != "model.safetensors":
            (model / path.name).symlink_to(path)
    tensors = {name: value.float() for name, value in load_file(DEMO / "model.safetensors").items()}
    plain = {("plain", name): demo_host(tmp_path_factory, name) for name in ("fp32", *QUANTIZED)}
    config = ModelConfig.from_dict(_manifest(plain["plain", "fp32"])["model"])
    save_file(with_outliers(tensors, config), model / "model.safetensors", metadata={"format": "pt"})
    return plain | {("outliers", name): _built(model, root, name) for name in QUANTIZED}


def _built(model: Path, root: Path, name: str) -> Path:
    out = root / f"{model.name}-{name}"
    done = build("--model", model, "--precision", name, out=out)
    assert done.returncode == 0, done.stderr
    return out


def _manifest(bundle: Path) -> dict:
    return json.loads((bundle / "bundle.json").read_text())


def stage_outputs(bundle: Path) -> dict[str, np.ndarray]:
    """Image embeddings, and the logits of a prefill and of a step for several fixed prompts: one alone is chance."""
    generator = np.random.default_rng(3)
    with Session(bundle) as session:
        size = session.config.vision.image_size
        pixels = generator.standard_normal((1, 3, size, size)).astype(np.float32)
        found = {"vision": session.decoder.encode_image(pixels)}
        logits = []
        for start in range(40, 1000, 160):
            rows = np.concatenate([session.decoder.embed([token]) for token in range(start, start + 80)])
            logits.append(session.decoder.decode(rows, 0).copy())
            logits.append(session.decoder.decode(session.decoder.embed([7]), len(rows)).copy())
        found["decoder"] = np.stack(logits)
    return found


def relative(got: np.ndarray, expected: np.ndarray) -> float:
    """Mean difference as a part of the mean size."""
    return float(np.abs(got - expected).mean() / np.abs(expected - expected.mean()).mean())


def test_int4_is_the_decoders_alone(quantized):
    """The vision stage beside it is int8's, byte for byte; the decoder is another."""
    assert _manifest(quantized["plain", "int4"])["precision"] == {"vision": "int8", "decoder": "int4"}
    theirs, ours = (_manifest(quantized["plain", name])["files"] for name in ("int8", "int4"))
    same = [file for file in ("vision.onnx", "vision.weights", "decoder.weights") if ours[file] == theirs[file]]
    assert same == ["vision.onnx", "vision.weights"]


@pytest.mark.parametrize("name, decoder", [("int8", 0.1), ("int4", 0.6), (DEFAULT, 0.6), (AMX, 0.6)])
def test_stages_are_close_to_float32_with_and_without_outliers(quantized, name, decoder):
    """Channels thirty times the others change nothing in float32, and hardly anything here."""
    most = {"vision": 0.1, "decoder": decoder}
    exact = stage_outputs(quantized["plain", "fp32"])
    plain, outliers = (stage_outputs(quantized[weights, name]) for weights in ("plain", "outliers"))
    for stage, expected in exact.items():
        clean, injected = relative(plain[stage], expected), relative(outliers[stage], expected)
        assert clean < most[stage], (stage, clean)
        assert injected < 1.5 * clean + 0.01, (stage, clean, injected)


@pytest.mark.parametrize("name, part", [("int8", 0.36), ("int4", 0.2)])
def test_quantised_weights_are_small_and_stored_once(quantized, name, part):
    """Packing them for a CPU's kernels is for whoever runs them: a file for one CPU is as good on another."""
    sizes = [_manifest(quantized["plain", key])["files"]["decoder.weights"]["size"] for key in ("fp32", name)]
    assert sizes[1] < part * sizes[0]
    assert b"prepacked" not in (quantized["plain", name] / "decoder.onnx").read_bytes()
