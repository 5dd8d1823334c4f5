"""build_engines.py: the ONNX bundle answers as PyTorch does, and a build that would not is refused."""

import json
import shutil

import numpy as np
import onnxruntime as ort
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from mobilevlm import MobileVLM
from mobilevlm.engines.bundle import Bundle
from mobilevlm.image import ImageSpec, load_image, preprocess
from mobilevlm.model.answer import answer, prompt_ids
from mobilevlm.runtime import Session
from tests.conftest import BUILD, GOLDEN, GOLDEN_MODELS, ROOT, build, build_here, load_golden, run

PHOTO = ROOT / "assets" / "table.jpg"


@pytest.mark.parametrize("name", GOLDEN_MODELS)
def test_greedy_tokens_are_the_originals(name, bundles):
    golden = load_golden(name)
    with Session(bundles[name]) as session:
        reply = session.chat(
            golden.meta["user_prompt"], Image.fromarray(golden.arrays["image_uint8"]), max_new_tokens=16
        )
        assert "".join(reply) == golden.meta["greedy_text"].strip()
        assert reply.tokens == golden.arrays["greedy_tokens"].tolist()


@pytest.mark.parametrize("name", GOLDEN_MODELS)
def test_vision_and_logits_match_the_original(name, bundles):
    """The stages one by one, with the runtime's runner: embeddings and prefill logits of the goldens."""
    golden = load_golden(name)
    with Session(bundles[name]) as session:
        image_embeds = session.decoder.encode_image(golden.arrays["pixel_values"])
        np.testing.assert_allclose(image_embeds[None], golden.arrays["projector_output"], atol=1e-4)
        logits = session.decoder.decode(golden.arrays["inputs_embeds"][0], past=0)
        np.testing.assert_allclose(logits, golden.arrays["logits"][0, -1], atol=2e-4)
        for step, token in enumerate(golden.arrays["greedy_tokens"][:-1]):
            past = golden.arrays["inputs_embeds"].shape[1] + step
            logits = session.decoder.decode(session.decoder.embed([token]), past)
            np.testing.assert_allclose(logits, golden.arrays["greedy_step_scores"][step + 1], atol=2e-4)


@pytest.mark.parametrize("name", GOLDEN_MODELS)
def test_a_photograph_gets_pytorchs_answer(name, bundles):
    model = MobileVLM.from_pretrained(load_golden(name).checkpoint)
    question = "Name the objects on the table."
    ids = prompt_ids(model, question, 1, "v1")
    pixels = torch.from_numpy(preprocess(load_image(PHOTO), ImageSpec.of(model.config.model_config)))
    expected = model.generate(ids, images=pixels, max_new_tokens=24, do_sample=False)[0].tolist()
    with Session(bundles[name]) as session:
        reply = session.chat(question, PHOTO, max_new_tokens=24)
        assert "".join(reply) == answer(model, question, PHOTO, max_new_tokens=24)
        assert reply.tokens == expected


def test_fp16_halves_the_disk_and_keeps_the_answer(bundles, tmp_path):
    """These weights are float16-representable, so storage in float16 loses nothing."""
    golden = load_golden("v1_ldpnet_112")
    done = build("--model", golden.checkpoint, "--precision", "fp16", out=tmp_path / "fp16")
    assert done.returncode == 0, done.stderr
    sizes = [(root / "decoder.weights").stat().st_size for root in (bundles["v1_ldpnet_112"], tmp_path / "fp16")]
    rope = 2 * 2048 * 8 * 4
    assert sizes[1] - rope < 0.55 * (sizes[0] - rope)
    with Session(tmp_path / "fp16") as session:
        image = Image.fromarray(golden.arrays["image_uint8"])
        reply = session.chat(golden.meta["user_prompt"], image, max_new_tokens=16)
        assert "".join(reply) and reply.tokens == golden.arrays["greedy_tokens"].tolist()


def test_precision_by_stage(tmp_path):
    golden = load_golden("v1_ldpnet_112")
    done = build("--model", golden.checkpoint, "--precision", "vision=fp16,decoder=fp32", out=tmp_path / "mixed")
    assert done.returncode == 0, done.stderr
    assert Bundle.open(tmp_path / "mixed").manifest.precision == {"vision": "fp16", "decoder": "fp32"}
    assert b"float16" not in (tmp_path / "mixed" / "embed_tokens.npy").read_bytes()[:100]


def test_a_model_whose_int4_weights_lie_in_the_graph_keeps_its_prefill(tmp_path):
    """Kind: the default of a model narrower than a block of int4 ended in a KeyError."""
    golden = load_golden("v2_ldpnetv2_336")
    done = build(
        "--model", golden.checkpoint, "--precision", "vision=int8,prefill=int8,decoder=int4", out=tmp_path / "x"
    )
    assert done.returncode == 0, done.stderr
    assert "prefill.json" not in Bundle.open(tmp_path / "x").manifest.files


def test_golden_sample_in_the_bundle_is_pytorchs(bundle):
    """A device proves parity with this file alone: it must hold what PyTorch computes, and the stages must give it."""
    sample = load_file(bundle / "golden.safetensors")
    model = MobileVLM.from_pretrained(load_golden("v2_ldpnetv2_336").checkpoint)
    ids = torch.from_numpy(sample["input_ids"])[None]
    images = torch.from_numpy(sample["pixel_values"])
    count = len(sample["tokens"])
    output = model.generate(
        ids, images=images, max_new_tokens=count, min_new_tokens=count, do_sample=False, output_scores=True,
        return_dict_in_generate=True, eos_token_id=None,
    )  # fmt: skip
    assert output.sequences[0].tolist() == sample["tokens"].tolist()
    np.testing.assert_allclose(torch.cat(output.scores), sample["logits"], atol=2e-4)
    session = ort.InferenceSession(str(bundle / "vision.onnx"), providers=["CPUExecutionProvider"])
    got = session.run(["image_embeds"], {"pixel_values": sample["pixel_values"]})[0]
    np.testing.assert_allclose(got, sample["image_embeds"], atol=1e-4)


def test_text_only_checkpoints_give_decoder_only_bundles(tmp_path):
    done = build("--model", GOLDEN / "lora_v1" / "base", out=tmp_path / "text")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "text" / "vision.onnx").exists()
    model = MobileVLM.from_pretrained(GOLDEN / "lora_v1" / "base")
    with Session(tmp_path / "text") as session:
        assert "".join(session.chat("Hello there", max_new_tokens=12)) == model.chat("Hello there", max_new_tokens=12)
        with pytest.raises(ValueError, match="text-only"):
            session.chat("Hello", PHOTO)


def test_lora_directories_build_on_their_base(tmp_path):
    lora = GOLDEN / "lora_v1"
    done = build("--model", lora / "lora", "--base", lora / "base", out=tmp_path / "lora")
    assert done.returncode == 0, done.stderr
    model = MobileVLM.from_pretrained(lora / "merged")
    with Session(tmp_path / "lora") as session:
        reply = session.chat("What is it?", PHOTO, max_new_tokens=12)
        assert "".join(reply) == model.chat("What is it?", PHOTO, max_new_tokens=12)
    alone = shutil.copytree(lora / "lora", tmp_path / "alone")
    done = build("--model", alone, out=tmp_path / "again")
    assert done.returncode == 2 and "--base DIR" in done.stderr


def test_max_context_limits_the_cache(tmp_path):
    golden = load_golden("v1_ldpnet_112")
    done = build("--model", golden.checkpoint, "--max-context", "100", out=tmp_path / "short")
    assert done.returncode == 0, done.stderr
    with Session(tmp_path / "short") as session:
        assert session.max_context == 100
        with pytest.raises(ValueError, match=r"141 tokens.*1 images of 16.*100: 41 too many"):
            session.chat(golden.meta["user_prompt"], Image.fromarray(golden.arrays["image_uint8"]))
    for asked in ("4096", "30", "-1"):
        done = build("--model", golden.checkpoint, "--max-context", asked, out=tmp_path / "other")
        assert done.returncode == 2 and f"--max-context is {asked}" in done.stderr and "up to 2048" in done.stderr


def test_random_weights_build_and_answer(tmp_path, monkeypatch):
    """The path of --random-weights, on a preset cut down to seconds."""
    from dataclasses import replace

    from mobilevlm.presets import PRESETS

    small = dict(hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4, head_dim=64)
    preset = PRESETS["mobilevlm_v2_1.7b"]
    vision = replace(preset.vision, num_hidden_layers=2)
    monkeypatch.setitem(PRESETS, "mobilevlm_v2_1.7b", replace(preset, **small, num_key_value_heads=4, vision=vision))
    build_here("--random-weights", "mobilevlm_v2_1.7b", out=tmp_path / "random")
    with Session(tmp_path / "random") as session:
        assert len(session.tokenizer) == 32000
        reply = session.chat("What is it?", PHOTO, max_new_tokens=5)
        assert "".join(reply).strip() and len(reply.tokens) == 5
        assert "--random-weights mobilevlm_v2_1.7b" in session.bundle.manifest.command


def test_help_shows_examples_and_every_target():
    done = run(BUILD, "--help")
    assert done.returncode == 0 and "--random-weights mobilevlm_v2_1.7b --target host" in done.stdout


def test_report_and_manifest_agree(bundle):
    manifest = json.loads((bundle / "bundle.json").read_text())
    report = (bundle / "report.md").read_text()
    for stage in manifest["verification"].values():
        for item in stage.values():
            assert f"| {item['stage']} | {item['tensor']} | {item['snr_db']:.1f} | {item['floor_db']:.1f} |" in report
            assert item["snr_db"] >= item["floor_db"]
