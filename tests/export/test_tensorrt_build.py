"""build_engines.py for TensorRT off the board: what it leaves, what it says, and what its graphs answer."""

import json
import shutil

import numpy as np
import onnx
import pytest

from mobilevlm import MobileVLM
from mobilevlm.engines.bundle import Bundle, amend_manifest
from mobilevlm.engines.targets import TARGETS, TENSORRT
from mobilevlm.errors import UserError
from mobilevlm.export import build_engines
from mobilevlm.export.backends.backend import backend_of
from mobilevlm.model.answer import answer
from mobilevlm.runtime import Session
from tests.conftest import BUILD, CHAT, DEMO, ROOT, run

PICTURE = ROOT / "assets" / "shapes.png"
QUESTIONS = ("What color is the circle?", "How many shapes are there?", "Is the star to the left of the square?")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The demo model for an Orin, in three pieces: what was printed, and where it is."""
    out = tmp_path_factory.mktemp("orin") / "demo orin"
    done = run(BUILD, "--model", DEMO, "--target", "orin", "--blocks", "3", "--max-context", "300", "--out", out)
    assert done.returncode == 0, done.stderr
    return done, out


def test_float16_graphs_say_word_for_word_what_pytorch_says(prepared):
    model = MobileVLM.from_pretrained(DEMO)
    with Session(prepared[1], on_cpu=True) as opened:
        for question in QUESTIONS:
            said = "".join(opened.chat(question, PICTURE, max_new_tokens=24))
            assert said == answer(model, question, PICTURE, max_new_tokens=24)


def test_the_bundle_is_what_the_device_needs(prepared):
    _, out = prepared
    names = {path.name for path in out.iterdir()}
    graphs = {f"decoder.{n}.onnx" for n in range(3)}
    assert names >= graphs | {f"decoder.{n}.weights" for n in range(3)} | {"vision.onnx", "vision.weights", "report.md"}
    graphs |= {"vision.onnx"}
    assert {name for name in names if "float32" in name} == {f"{name[:-5]}.float32.onnx" for name in graphs}
    bundle = Bundle.open(out)
    assert bundle.manifest.parts == {"decoder.0": [0, 2], "decoder.1": [2, 4], "decoder.2": [4, 6]}
    assert bundle.manifest.precision == {"vision": "fp16", "decoder": "fp16"} and bundle.manifest.max_context == 300
    assert np.load(out / "embed_tokens.npy", mmap_mode="r").dtype == np.float16
    found = bundle.manifest.verification
    assert set(found) == {"vision", "decoder", "vision.form", "decoder.form"}
    assert found["decoder"]["logits"]["snr_db"] > 80


def test_before_there_is_a_board_it_can_be_asked_on_this_cpu(prepared, tmp_path):
    _, out = prepared
    asked = [CHAT, "--engine", out, "--image", PICTURE, "--prompt", QUESTIONS[0]]
    done = run(*asked, "--on-cpu")
    assert done.returncode == 0 and done.stdout == "The circle is red.\n"
    refused = run(*asked)
    assert refused.returncode == 2 and "TensorRT" in refused.stderr
    copy = shutil.copytree(out, tmp_path / "board")
    (copy / "decoder.1.float32.onnx").unlink()
    amend_manifest(copy, Bundle.open(out).manifest, [], spare=["decoder.1.float32.onnx"])
    refused = run(CHAT, "--engine", copy, "--prompt", "Hello", "--on-cpu")
    assert refused.returncode == 2 and "a board does without" in refused.stderr and "--target orin" in refused.stderr


def test_the_graphs_inputs_and_outputs_are_the_contracts(prepared):
    def interface(name: str) -> dict[str, tuple]:
        graph = onnx.load(str(prepared[1] / name), load_external_data=False).graph
        return {
            value.name: (
                value.type.tensor_type.elem_type,
                *(dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim),
            )
            for value in (*graph.input, *graph.output)
        }

    half, single, whole = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    last = interface("decoder.2.onnx")
    cache = {f"past_key_values.{layer}.{part}" for layer in (4, 5) for part in ("key", "value")}
    assert set(last) == cache | {"hidden_states", "attention_mask", "rope_cos", "rope_sin", "logits", "new_rows"} | {
        "top_logits",
        "top_tokens",
    }
    assert last["top_tokens"] == (whole, 1, 64) and last["top_logits"] == (single, 1, 64)
    assert last["past_key_values.5.key"] == (half, 1, "past", 4, 64)
    assert last["new_rows"] == (half, 4, "new", 256) and last["hidden_states"] == (half, 1, "sequence", 256)
    assert last["attention_mask"] == (half, 1, 1, "new", "columns")
    assert last["rope_sin"] == (single, 1, "new", 1, 64) and last["logits"] == (single, 1, 1024)
    assert interface("decoder.1.onnx")["next_hidden_states"] == (half, 1, "sequence", 256)
    assert interface("vision.onnx") == {"pixel_values": (single, 1, 3, 144, 144), "image_embeds": (half, 1, 144, 256)}


def test_it_says_what_comes_next_and_the_report_what_was_found(prepared):
    done, out = prepared
    assert f"and there\n  python engines/compile.py '{out}'" in done.stderr and done.stdout.strip() == str(out)
    report = (out / "report.md").read_text()
    for text in (
        "decoder.0 (layers 0 to 1)",
        "| decoder | float16 |",
        "| decoder | logits |",
        "| decoder.2 |",
    ):
        assert text in report
    again = json.loads((out / "bundle.json").read_text())["command"]
    assert "--target orin" in again and "--blocks 3" in again and "--max-context 300" in again


@pytest.mark.parametrize(
    "words, message",
    [
        (("--model", DEMO, "--target", "host", "--blocks", "2"), "--blocks is for targets on TensorRT"),
        (("--model", DEMO, "--target", "orin", "--blocks", "0"), "has 6 layers, cut it into 1 to 6"),
        (("--model", DEMO, "--target", "orin", "--blocks", "7"), "has 6 layers, cut it into 1 to 6"),
        (("--model", DEMO, "--target", "orin", "--calibration", "a.json"), "for a decoder in int8 or int4"),
        (("--model", DEMO, "--target", "orin", "--precision", "vision=int4"), "use vision=int8"),
        (("--model", DEMO, "--target", "orin", "--soc", "8gen3"), "--soc and --no-compile are for"),
        (("--engine", "there", "--target", "host"), "--engine is for targets on TensorRT"),
        (("--engine", "there", "--target", "orin"), "there is no engine bundle at there"),
        (("--engine", "there", "--target", "orin", "--precision", "int8"), "--precision cannot be changed any more"),
    ],
)
def test_mistakes_are_refused_with_a_remedy(words, message, tmp_path):
    words = [*words, *([] if "--engine" in words else ["--out", tmp_path / "out"])]
    with pytest.raises(UserError, match=message):
        build_engines.build(build_engines.parser().parse_args([str(word) for word in words]))
    assert not list(tmp_path.iterdir())


def test_a_bundle_is_compiled_for_what_it_was_built_for(prepared):
    words = ["--engine", str(prepared[1]), "--target", "orin-nx"]
    with pytest.raises(UserError, match="was built for --target orin, not for orin-nx"):
        build_engines.build(build_engines.parser().parse_args(words))


def test_boards_with_little_memory_get_more_engines():
    orin, nano = TARGETS["orin"], TARGETS["orin-nano"]
    assert len(backend_of(orin).cut(24, orin, 0)) == 1
    assert [len(layers) for layers in backend_of(nano).cut(24, nano, 0).values()] == [12, 12]
    assert [len(layers) for layers in backend_of(nano).cut(32, nano, 0).values()] == [10, 11, 11]
    assert {row.name for row in TARGETS.values() if row.backend == TENSORRT} == {
        "orin",
        "orin-nx",
        "orin-nano",
        "cuda",
        "rtx",
    }
