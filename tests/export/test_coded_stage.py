"""What coding a stage for an NPU decides: 16-bit weights where 8 cost too much, int4, outliers, pieces."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.engines import stages
from mobilevlm.export import build_engines
from mobilevlm.export.backends.qnn import backend
from mobilevlm.export.backends.qnn.sensitivity import block_of
from mobilevlm.export.precisions import a16w4, a16w8
from mobilevlm.runtime import Session
from tests.conftest import DEMO, ROOT
from tests.export.outliers import with_outliers

PICTURE, QUESTION = ROOT / "assets" / "shapes.png", "What color is the circle?"


def build(out, *options, model=DEMO):
    words = ["--model", model, "--target", "snapdragon", "--out", out, *options]
    build_engines.build(build_engines.parser().parse_args([str(word) for word in words]))
    return out


def answer(engine, on_cpu: bool) -> str:
    with Session(engine, on_cpu=on_cpu) as session:
        return "".join(session.chat(QUESTION, PICTURE))


def blocks(engine) -> dict[tuple[str, str], tuple[float, str]]:
    """Of a report: stage and block to what is left behind it in decibels, and its weights."""
    report = (engine / stages.REPORT_FILE).read_text().split("What coding costs")[1].split("Compiled for")[0]
    lines = report.splitlines()
    rows = [re.split(r" *\| *", line.strip("| ")) for line in lines if line.startswith(("| vision | ", "| decoder | "))]
    return {(stage, block): (float(snr), weights) for stage, block, snr, _, weights in rows}


def snr(engine, stage: str) -> float:
    """Against PyTorch, of the bundle's golden sample."""
    tensors = json.loads((engine / stages.MANIFEST_FILE).read_text())["verification"][stage]
    return tensors[stages.IMAGE_EMBEDS if stage == stages.VISION else stages.LOGITS]["snr_db"]


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    return build(tmp_path_factory.mktemp("usual") / "bundle", "--soc", "8gen3")


def test_every_block_is_in_the_report(usual):
    found = blocks(usual)
    config = json.loads((usual / stages.MANIFEST_FILE).read_text())["model"]
    layers = [("decoder", f"layers.{layer}") for layer in range(config["num_hidden_layers"])]
    assert [key for key in found if key[0] == "decoder"] == [*layers, ("decoder", "head")]
    assert ("vision", "projector") in found and len(found) == 2 * len(layers) + 2
    assert all(weights == "a16w8" and decibels > a16w8.FACTS.budget_db for decibels, weights in found.values())


def test_blocks_that_cost_too_much_get_16_bit_weights(usual, tmp_path, monkeypatch, capsys):
    """With a budget that 8 bits do not reach: more of the signal is left, and the NPU still takes all."""
    budget_db = max(snr(usual, "decoder"), snr(usual, "vision")) + 3
    monkeypatch.setattr(a16w8, "FACTS", replace(a16w8.FACTS, budget_db=budget_db))
    exact = build(tmp_path / "exact", "--soc", "8gen3")
    assert "16-bit weights for" in capsys.readouterr().err
    changed = {key for key, (_, weights) in blocks(exact).items() if weights == "int16"}
    assert changed and {stage for stage, _ in changed} == {"vision", "decoder"}
    for stage in ("vision", "decoder"):
        last = [key for key in blocks(usual) if key[0] == stage][-1]  # on all of the data, not one sample
        assert blocks(exact)[last][0] > blocks(usual)[last][0] + 1
    compiled = (exact / stages.REPORT_FILE).read_text().split("on the NPU |")[1]
    assert all(row.split("|")[2] == row.split("|")[3] for row in compiled.splitlines() if row.startswith("| "))
    assert answer(exact, on_cpu=False) == "The circle is red."
    build(tmp_path / "old", "--soc", "888")  # has no such products: says so, and what to do
    assert "less than its budget" in capsys.readouterr().err
    assert {weights for _, weights in blocks(tmp_path / "old").values()} == {"a16w8"}


def test_int4_weights_halve_a_token_and_answer(usual, tmp_path):
    engine = build(tmp_path / "int4", "--soc", "8gen3", "--precision", "decoder=a16w4")
    sizes = [(one / stages.weights_file("decoder.0")).stat().st_size for one in (engine, usual)]
    assert sizes[0] < 0.75 * sizes[1]
    assert answer(engine, on_cpu=True) == answer(engine, on_cpu=False) == "The circle is red."
    assert snr(engine, "decoder") > 15
    with pytest.raises(ValueError, match="leave it at a16w8"):
        build(tmp_path / "old", "--soc", "8gen1", "--precision", "decoder=a16w4")


def test_int4_is_closer_than_plain_rounding_and_closer_still_with_what_is_read():
    generator = np.random.default_rng(3)
    weight = (generator.standard_t(4, (256, 96)) * 0.02).astype(np.float32)
    mixing = generator.standard_normal((256, 256)).astype(np.float32)
    alone = generator.standard_normal((2000, 256))
    read = (generator.standard_normal((2000, 32)) @ mixing[:32] + alone).astype(np.float32)

    def off(codes: np.ndarray, scales: np.ndarray) -> tuple[float, float]:
        error = codes * scales.repeat(a16w4.BLOCK, 0) - weight
        return float(np.square(error).mean()), float(np.square(read @ error).mean())

    blocks_of = weight.reshape(-1, a16w4.BLOCK, 96)
    steps = np.abs(blocks_of).max(1) / 7
    plain = np.rint(blocks_of / steps[:, None]).reshape(weight.shape), steps
    fitted = a16w4.quantize(weight)
    chosen = a16w4.quantize(weight, torch.from_numpy(read.T @ read))
    assert fitted[0].min() >= -8 and fitted[0].max() <= 7 and chosen[0].min() >= -8 and chosen[0].max() <= 7
    assert off(*fitted)[0] < 0.9 * off(*plain)[0]
    assert off(*chosen)[1] < 0.5 * off(*fitted)[1]


def test_outliers_do_not_break_it(usual, tmp_path):
    """Channels as real CLIP and LLaMA weights have them, in a copy that computes the same."""
    copy = tmp_path / "outliers"
    copy.mkdir()
    for path in DEMO.iterdir():
        if path.name != "model.safetensors":
            (copy / path.name).symlink_to(path)
    config = ModelConfig.from_dict(json.loads((usual / stages.MANIFEST_FILE).read_text())["model"])
    tensors = {name: one.float() for name, one in load_file(DEMO / "model.safetensors").items()}
    save_file(with_outliers(tensors, config), copy / "model.safetensors", metadata={"format": "pt"})
    engine = build(tmp_path / "bundle", "--no-compile", model=copy)
    for stage in ("vision", "decoder"):
        assert snr(engine, stage) > snr(usual, stage) - 6
    assert answer(engine, on_cpu=True) == "The circle is red."


def test_a_decoder_in_pieces_answers_as_in_one(usual, tmp_path, monkeypatch):
    """As a model too large for one binary is cut."""
    monkeypatch.setattr(backend, "BINARY_BYTES", 3_000_000)
    engine = build(tmp_path / "pieces", "--soc", "8gen3")
    parts = json.loads((engine / stages.MANIFEST_FILE).read_text())["parts"]
    assert list(parts.values()) == [[0, 3], [3, 6]]
    assert len(list(engine.glob("decoder.*_qnn.bin"))) == 2
    assert answer(engine, on_cpu=False) == answer(usual, on_cpu=True) == "The circle is red."
    assert abs(snr(engine, "decoder") - snr(usual, "decoder")) < 3


@pytest.mark.parametrize(
    "layer, block",
    [
        ("model.layers.11.mlp.up_proj", "model.layers.11"),
        ("model.vision_tower.vision_tower.vision_model.encoder.layers.3.self_attn.q_proj",) * 2,
        ("model.mm_projector.mlp.mlp.0", "projector"),
        ("lm_head", "head"),
        ("model.embed_tokens", "head"),
    ],
)
def test_the_block_of_a_layer(layer, block):
    assert block_of(layer) == block.split(".self_attn")[0]


def test_pictures_are_needed(tmp_path):
    rows = [{"conversations": [{"from": "human", "value": "Hello?"}, {"from": "gpt", "value": "Hello."}]}]
    (tmp_path / "text.json").write_text(json.dumps(rows))
    with pytest.raises(ValueError, match="names no picture"):
        build(tmp_path / "bundle", "--no-compile", "--calibration", tmp_path / "text.json")
    assert not (tmp_path / "bundle").exists()
