"""The libraries that the layout is for, unchanged: `bash run.sh test --clients` installs them, and runs this.

Answers are compared with this project's float32 bundle, and token by token with ONNX Runtime's own on the same files.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mobilevlm.image import ImageSpec, load_image, preprocess
from mobilevlm.runtime import Session
from tests.conftest import ROOT
from tests.export.hf_layout.loop import Loop, asking

HERE, CLIENTS = Path(__file__).parent, ROOT / "artifacts" / "clients"
IMAGES = (ROOT / "assets" / "shapes.png", ROOT / "export" / "calibration_data" / "00.jpg")
QUESTIONS = [
    (IMAGES[0], "What color is the circle?"),
    (IMAGES[0], "How many shapes are there?"),
    (IMAGES[1], "Can you read the number?"),
]
SUFFIXES = {"fp32": "", "fp16": "_fp16", "q8": "_quantized", "q4": "_q4"}


def in_node(folder: Path, dtype: str, questions: list[dict]) -> list[dict]:
    """Asks transformers.js in Node."""
    if not shutil.which("node") or not (CLIENTS / "node_modules" / "@huggingface" / "transformers").is_dir():
        pytest.skip("bash run.sh test --clients installs transformers.js")
    script = CLIENTS / "ask.mjs"
    shutil.copy(HERE / "ask.mjs", script)
    done = subprocess.run(
        ["node", script, folder, dtype], input=json.dumps(questions), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_transformers_js_says_what_a_bundle_says(demo_fp32, demo_hf):
    got = in_node(demo_hf, "fp32", [{"image": str(image), "messages": asking(text)} for image, text in QUESTIONS])
    with Session(demo_fp32) as session:
        assert [one["text"] for one in got] == ["".join(session.chat(text, image=image)) for image, text in QUESTIONS]


@pytest.mark.parametrize("dtype", SUFFIXES)
def test_transformers_js_chooses_the_tokens_of_onnx_runtime(demo_hf, dtype):
    """On the same pixels, and from the ids that it makes itself; its own pixels are near."""
    loop = Loop(demo_hf, SUFFIXES[dtype])
    pixels = [preprocess(load_image(image), ImageSpec(144)) for image, _ in QUESTIONS]
    questions = [
        {"image": str(image), "messages": asking(text), "pixels": one.ravel().tolist()}
        for (image, text), one in zip(QUESTIONS, pixels, strict=True)
    ]
    got = in_node(demo_hf, dtype, questions)
    for one, (image, text), exact in zip(got, QUESTIONS, pixels, strict=True):
        inputs = loop.inputs(asking(text), load_image(image))
        assert one["ids"] == inputs["input_ids"][0].tolist()
        tokens = one["tokens"][: one["tokens"].index(2)] if 2 in one["tokens"] else one["tokens"]
        assert tokens == loop.generate(inputs)[0]
        error = exact.ravel() - one["pixels"]
        assert (error**2).mean() < 1e-3 * (exact**2).mean()  # 30 dB: it shrinks with another filter


def test_transformers_js_mixes_data_types_and_takes_the_configurations_own(demo_hf):
    """A map of data types, and none at all: `config.json` says q8; a conversation without an image goes on."""
    asked = [{"image": str(IMAGES[0]), "messages": asking("What color is the circle?")}]
    mixed = json.dumps({"vision_encoder": "q8", "embed_tokens": "q8", "decoder_model_merged": "q4"})
    assert in_node(demo_hf, mixed, asked)[0]["text"] == "The circle is red."
    earlier = [*asking("Hello."), {"role": "assistant", "content": "Hello."}, *asking("Hello.")]
    texts = [{"messages": [one | {"content": "Hello."} for one in earlier]}]
    by_config, alone = in_node(demo_hf, "config", asked + texts)
    assert by_config["text"] == "The circle is red." and alone["text"]


def test_optimum(demo_hf):
    """Optimum's `ORTModelForCausalLM` loads the decoder, and generates once it is given rows in the place of ids."""
    if not (CLIENTS / "optimum" / "optimum").is_dir():
        pytest.skip("bash run.sh test --clients installs Optimum")
    image, question = QUESTIONS[0]
    words = [sys.executable, HERE / "ask_optimum.py", CLIENTS / "optimum", demo_hf, image, question]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["text"] == "The circle is red."
    assert said["refused"] == "Input inputs_embeds is required by model but not provided."
