"""A new precision, projector or target is one file, or one row: added to a copy of the tree, built with and run.

Nothing else in the copy changes. What it then says of them is compared with counts from the checkpoint's shapes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from math import prod
from pathlib import Path

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file, save_file

from tests.conftest import GOLDEN, ROOT

FOLDERS = ("mobilevlm", "engines", "export", "runtime", "jetson")
PRECISION = '''"""int8 weights with a scale for each output, float32 products."""

from __future__ import annotations

import numpy as np

from mobilevlm.engines.stage_form import FP32, StageForm

from .facts import Facts
from .fp32 import transposed
from .int8 import quantize

FACTS = Facts(0.2, 1.06, np.float16, StageForm(FP32, FP32, 1, 1, "float32", quantized=True))


def linear(graph, x, names):
    """MatMul with the transposed weight, dequantised from int8."""
    values, scales = quantize(transposed(graph, names))
    stored = graph.initializer(f"{names[0]}.codes", values), graph.initializer(f"{names[0]}.scales", scales)
    return graph.op("MatMul", x, graph.op("DequantizeLinear", *stored, axis=1))
'''
PROJECTOR = '''"""`pairs`: two neighbouring patches side by side, then one layer."""

from __future__ import annotations

import numpy as np

from . import PREFIX


def num_tokens(config):
    return config.num_patches // 2


def operations(config):
    return 2 * num_tokens(config) * num_weights(config)


def num_weights(config):
    return 2 * config.mm_hidden_size * config.hidden_size


def module(config):
    from torch import nn

    class Pairs(nn.Linear):
        def forward(self, x):
            return super().forward(x.reshape(len(x), -1, self.in_features))

    return Pairs(2 * config.mm_hidden_size, config.hidden_size)


def to_onnx(graph, x, config):
    x = graph.op("Reshape", x, graph.constant(np.array([1, -1, 2 * config.mm_hidden_size])))
    return graph.linear(x, PREFIX.removesuffix("."))
'''
ROW = """        Target(
            name="bench",
            device="a CPU on a bench",
            backend="ort",
            lowering="ort",
            prefill_lowering="ort_prefill",
            precisions={VISION: ("fp32", "int8_weights"), DECODER: ("fp32", "int8_weights")},
            preferred={VISION: ("int8_weights",), DECODER: ("int8_weights",)},
            default_context=256,
        ),
"""
FIRST_ROW = "    for target in (\n"
ROWS, TOKENS = 60, 2  # of the prompt that is measured, and behind it
PATCHES, IMAGE_TOKENS, USED_LAYERS = 64, 32, 2  # of an image of 112 x 112, and of the tower's three layers


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """The copy, with a new file of each kind and a new row."""
    copy = tmp_path_factory.mktemp("tree")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "pyproject.toml", copy / "pyproject.toml")
    (copy / "export" / "precisions" / "int8_weights.py").write_text(PRECISION)
    (copy / "mobilevlm" / "model" / "projectors" / "pairs.py").write_text(PROJECTOR)
    table = copy / "engines" / "targets.py"
    assert table.read_text().count(FIRST_ROW) == 1
    table.write_text(table.read_text().replace(FIRST_ROW, FIRST_ROW + ROW))
    return copy


def call(tree: Path, script: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command of the copy."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, str(tree / script), *map(str, words)]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=300, env=clean)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A golden checkpoint with a new projector in the place of its own."""
    root = tmp_path_factory.mktemp("model")
    for name in ("ckpt_safetensors", "vision_tower"):
        shutil.copytree(GOLDEN / "v1_ldpnet_112" / name, root / name)
    directory = root / "ckpt_safetensors"
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"mm_projector_type": "pairs"}))
    tensors = load_file(directory / "model.safetensors")
    tensors = {name: value for name, value in tensors.items() if ".mm_projector." not in name}
    draws = np.random.default_rng(8)
    tensors["model.mm_projector.weight"] = 0.02 * draws.standard_normal((64, 2 * 32), np.float32)
    tensors["model.mm_projector.bias"] = 0.02 * draws.standard_normal(64, np.float32)
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    return directory


@pytest.fixture(scope="module")
def bundle(tree, checkpoint) -> Path:
    call(tree, "export/build_engines.py", "--model", checkpoint, "--target", "bench", "--out", tree / "bundle")
    return tree / "bundle"


@pytest.fixture(scope="module")
def benchmark(tree, bundle) -> dict:
    words = ["--repeats", "1", "--prompt-tokens", ROWS, "--decode-tokens", TOKENS, "--wait", "0"]
    return json.loads(call(tree, "runtime/benchmark.py", "--engine", bundle, *words).stdout.splitlines()[-1])


def shapes(checkpoint: Path, *parts: str) -> list[tuple[int, ...]]:
    """Shapes of the tensors whose names have all of some parts."""
    tensors = load_file(checkpoint / "model.safetensors")
    return [tuple(value.shape) for name, value in tensors.items() if all(part in name for part in parts)]


def vision_weights(checkpoint: Path) -> list[int]:
    """Weights of the layers in use, of the patch embedding and of the projector."""
    layers = [shapes(checkpoint, f"vision_model.encoder.layers.{layer}.", ".weight") for layer in range(USED_LAYERS)]
    linears = sum(prod(shape) for shape in sum(layers, []) if len(shape) == 2)
    found = [linears]
    for name in ("patch_embedding.weight", "mm_projector.weight"):
        (shape,) = set(shapes(checkpoint, name))
        found.append(prod(shape))
    return found


def operations(checkpoint: Path) -> tuple[int, int]:
    """Of one image, in linear layers and in attention."""
    linears, patch_embedding, projector = vision_weights(checkpoint)
    products = (PATCHES + 1) * linears + PATCHES * patch_embedding + IMAGE_TOKENS * projector
    return 2 * products, USED_LAYERS * 4 * (PATCHES + 1) ** 2 * 32


def test_the_build_notes_and_reports_them(bundle):
    manifest, report = json.loads((bundle / "bundle.json").read_text()), (bundle / "report.md").read_text()
    assert (manifest["target"], manifest["max_context"], manifest["num_image_tokens"]) == ("bench", 256, IMAGE_TOKENS)
    assert manifest["precision"] == {"vision": "int8_weights", "decoder": "int8_weights"}
    assert {(form["products"], form["weight_bytes"]) for form in manifest["forms"].values()} == {("fp32", 1)}
    for text in ("device: a CPU on a bench", "precision: vision int8_weights, decoder int8_weights", "px, pairs"):
        assert text in report
    row_kib = 3 * 2 * 64 * 4 / 1024  # of the kv cache: three layers of keys and values of 64 floats
    assert f"kv cache {row_kib:.0f} KiB a token" in report
    found = [item["snr_db"] for stage in ("vision", "decoder") for item in manifest["verification"][stage].values()]
    assert min(found) > 20


def test_it_answers(tree, bundle):
    words = ["--image", ROOT / "assets" / "table.jpg", "--prompt", "What is it?", "--max-new-tokens", "6"]
    assert call(tree, "runtime/chat.py", "--engine", bundle, *words).stdout.strip()


def test_the_benchmarks_limits_are_those_of_the_shapes(checkpoint, bundle, benchmark):
    (engine,), limits = benchmark["engines"], benchmark["limits"]
    peak = 1e9 * limits["fp32_gflop_per_s"]  # its products are of floats, whatever its name
    stages = engine["stages"]
    assert stages["image encode"]["limit_ms"] == pytest.approx(1e3 * sum(operations(checkpoint)) / peak)
    graph = onnx.load(bundle / "decoder.onnx", load_external_data=False).graph
    sizes = {onnx.TensorProto.INT8: 1, onnx.TensorProto.FLOAT: 4, onnx.TensorProto.INT64: 8}
    held = sum(prod(one.dims) * sizes[one.data_type] for one in graph.initializer if not one.name.startswith("rope."))
    linears = sum(prod(shape) for shape in shapes(checkpoint, "model.layers.", ".weight") if len(shape) == 2)
    linears += sum(prod(shape) for shape in shapes(checkpoint, "lm_head.weight"))
    assert linears < held < 1.2 * linears
    read = held + ROWS * 3 * 2 * 64 * 4
    assert stages[f"decode after {ROWS}"]["limit_ms"] == pytest.approx(read / limits["read_gb_per_s"] / 1e6)


def test_a_boards_limits_are_those_of_the_shapes(tree, checkpoint, bundle):
    """Bytes and operations that `jetson/` computes for a bundle whose precision and projector it has never heard of."""
    words = ["--board", "agx-orin-64", "--repeats", "1", "--prompt-tokens", ROWS, "--decode-tokens", TOKENS]
    done = call(tree, "jetson/benchmark.py", "--engine", bundle, *words, "--answers-seconds", "0")
    limit = json.loads(done.stdout.splitlines()[-1])["stages"]["image encode"]["limit"]
    peak, bandwidth = 16 * 256 * 1.3e9, 204.8e9
    assert limit["memory_ms"] == pytest.approx(1e3 * sum(vision_weights(checkpoint)) / bandwidth)
    assert limit["compute_ms"] == pytest.approx(1e3 * sum(operations(checkpoint)) / peak)
