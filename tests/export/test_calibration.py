"""Weights chosen on calibration data: GPTQ against its definition, what layers read against the whole model's run."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from mobilevlm import MobileVLM
from mobilevlm.checkpoint.checkpoint import open_checkpoint
from mobilevlm.export.calibration.conversations import DEFAULT, embedded, read_conversations
from mobilevlm.export.calibration.decoder_activations import LARGEST, MARGIN, READERS, Observed
from mobilevlm.export.precisions import int4
from mobilevlm.export.weights.equalize import Balanced
from mobilevlm.export.weights.gptq import DAMPING, round_blocks
from mobilevlm.image import ImageSpec, load_image, preprocess
from mobilevlm.text.prompt import IMAGE, Conversation, template
from tests.conftest import DEMO, build
from tests.export.test_architectures import CASES, MODEL, write_checkpoint
from tests.export.test_quantized import heavy_tailed, unpacked


def correlated(tokens: int, columns: int) -> torch.Tensor:
    """Inputs some of which go along with others, as a layer's do."""
    generator = torch.Generator().manual_seed(5)
    mixing = torch.randn(columns // 4, columns, generator=generator)
    noise = torch.randn(tokens, columns, generator=generator)
    return torch.randn(tokens, columns // 4, generator=generator) @ mixing + 0.5 * noise


def fixed_scales(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.full((len(weight),), 0.013), torch.full((len(weight),), 7.0)


def by_definition(weight: np.ndarray, moments: np.ndarray, scale: float, zero: float) -> np.ndarray:
    """Optimal brain quantisation in a fixed order (arXiv 2208.11580, eq. 3), in float64: codes (N, K)."""
    rest, codes = weight.astype(np.float64), np.zeros(weight.shape)
    inverse = np.linalg.inv(moments + DAMPING * np.diag(moments).mean() * np.eye(len(moments)))
    for column in range(weight.shape[1]):
        codes[:, column] = np.clip(np.rint(rest[:, column] / scale + zero), 0, 15)
        lost = rest[:, column] - (codes[:, column] - zero) * scale
        rest -= np.outer(lost, inverse[column] / inverse[column, column])
        inverse -= np.outer(inverse[:, column], inverse[column]) / inverse[column, column]
    return codes


def test_gptq_is_what_it_is_defined_as():
    weight, inputs = heavy_tailed(40, 96), correlated(500, 96)
    moments = inputs.T @ inputs
    codes, _, _ = round_blocks(torch.from_numpy(weight), moments, 32, 15, fixed_scales)
    expected = by_definition(weight, moments.double().numpy(), 0.013, 7.0)
    assert (codes.numpy() == expected).mean() > 0.999  # a tie may fall to the other side
    assert (np.rint(weight / 0.013 + 7).clip(0, 15) != expected).mean() > 0.2


@pytest.mark.parametrize("rows, columns", [(64, 256), (300, 200)])
def test_calibrated_int4_computes_more_exactly_than_rounding(rows, columns):
    """On other inputs of the same kind than those it was calibrated on."""
    weight, inputs = heavy_tailed(rows, columns), correlated(2000, columns)
    seen, unseen = inputs[:1000], inputs[1000:].numpy()
    errors = []
    for moments in (None, seen.T @ seen):
        read = unpacked(*int4.quantize(weight, moments), columns)
        errors.append(np.square(unseen @ (weight - read).T).mean())
    assert errors[1] < 0.5 * errors[0]


@pytest.fixture
def conversations(tmp_path):
    """Two of the shipped ones with pictures and one without."""
    rows = read_conversations(DEFAULT).rows
    chosen = [row for row in rows if "image" in row][:2] + [row for row in rows if "image" not in row][:1]
    for row in chosen[:2]:
        shutil.copy(DEFAULT.parent / row["image"], tmp_path)
    path = tmp_path / "conversations.json"
    path.write_text(json.dumps(chosen))
    return path


@pytest.mark.parametrize("case", ["grouped heads", "tied embeddings", "start and end tokens", "text only"])
def test_moments_are_those_of_the_whole_model(case, conversations, tmp_path):
    """Against hooks on MobileVLM's own forward pass over the same conversations, worded and tokenised here anew."""
    config = replace(MODEL, **CASES[case])
    write_checkpoint(config, tmp_path / "model")
    model = MobileVLM.from_pretrained(tmp_path / "model")
    layers = [
        f"model.layers.{n}.{reader}" for n in range(config.num_hidden_layers) for group in READERS for reader in group
    ]
    layers += ["lm_head"]
    expected, caches = {}, []

    def add(name, rows):
        expected[name] = expected.get(name, 0) + rows.flatten(0, 1).T @ rows.flatten(0, 1)

    for name in layers:
        watched = model.get_submodule(name)
        watched.register_forward_pre_hook(lambda _, read, name=name: add(name, read[0]))
    for row in json.loads(conversations.read_text()):
        talk, pictures = Conversation(template("v1")), [row["image"]] if "image" in row and config.vision else []
        for ask, answer in zip(row["conversations"][::2], row["conversations"][1::2], strict=True):
            talk.ask(ask["value"].replace(IMAGE.name, "").strip(), len(pictures) if not talk.messages else 0)
            talk.answer(answer["value"])
        ids = torch.tensor([model.tokenizer.encode(talk.segments(bool(pictures) and config.mm_use_im_start_end))])
        images = [preprocess(load_image(tmp_path / name), ImageSpec.of(config)) for name in pictures]
        with torch.no_grad():
            pixel_values = torch.from_numpy(np.concatenate(images)) if images else None
            caches.append(model(ids, images=pixel_values, use_cache=True).past_key_values)
    checkpoint = open_checkpoint(tmp_path / "model")
    observed = Observed(config, checkpoint.tensors, embedded(checkpoint, read_conversations(conversations)))
    for name in layers:
        wanted = expected[name]
        torch.testing.assert_close(observed.moments(name), wanted, atol=1e-4 * wanted.abs().max().item(), rtol=0)
    for number in range(config.num_hidden_layers):
        for part in ("key", "value"):
            rows = torch.cat([getattr(cache.layers[number], f"{part}s") for cache in caches], 2)[0]
            largest, size = rows.abs().amax(1).flatten(), observed.cache_scales(number, part) * LARGEST / MARGIN
            if part == "value":
                torch.testing.assert_close(size, largest, atol=0, rtol=1e-4)
            else:  # what RoPE makes of a pair at any position, not only at those seen
                assert (size > 0.9999 * largest).all()
                pairs = rows.view(*rows.shape[:2], 2, -1).norm(dim=2).amax(1)
                torch.testing.assert_close(size, torch.cat([pairs, pairs], 1).flatten(), atol=0, rtol=1e-4)
    with pytest.raises(LookupError, match="in their order, and once"):
        observed.moments("model.layers.0.self_attn.q_proj")


def test_moments_follow_balanced_weights(tmp_path, conversations):
    """What a layer reads is scaled as its columns are: the product, and so the model, stays."""
    write_checkpoint(MODEL, tmp_path / "model")
    checkpoint = open_checkpoint(tmp_path / "model")
    inputs, name = embedded(checkpoint, read_conversations(conversations)), "model.layers.1.mlp.down_proj"
    outputs = []
    for tensors in (checkpoint.tensors, Balanced(checkpoint.tensors, MODEL)):
        weight = tensors[f"{name}.weight"].float()
        outputs.append(weight @ Observed(MODEL, tensors, inputs).moments(name) @ weight.T)
    torch.testing.assert_close(outputs[1], outputs[0], atol=1e-3 * outputs[0].abs().max().item(), rtol=0)


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "cannot be read as JSON"),
        ("[{", "cannot be read as JSON"),
        ("{}", "has to hold a list of conversations"),
        ('[{"image": "a.jpg"}]', "row 0: conversations is missing"),
        ('[{"conversations": [{"from": "gpt", "value": "x"}]}]', "one after the other"),
        (
            '[{"image": "a.jpg", "conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}]}]',
            "a.jpg is missing",
        ),
    ],
)
def test_files_of_another_form_are_refused_before_the_build(text, message, tmp_path):
    path = tmp_path / "data.json"
    if text is not None:
        path.write_text(text)
    done = build("--model", DEMO, "--precision", "int4", "--calibration", path, out=tmp_path / "out")
    assert done.returncode == 2 and message in done.stderr and str(path) in done.stderr
    assert not (tmp_path / "out").exists()


def test_calibration_is_refused_where_nothing_is_calibrated(tmp_path):
    done = build("--model", DEMO, "--precision", "int8", "--calibration", DEFAULT, out=tmp_path / "out")
    assert done.returncode == 2 and "--calibration is for a decoder in int4, and this one is int8" in done.stderr


def test_a_build_is_calibrated_on_the_file_it_is_given(conversations, tmp_path):
    """Other data, other codes; and the bundle says which, and how to build it again."""
    reports, weights = [], []
    for name, words in {"own": ["--calibration", conversations], "default": []}.items():
        done = build("--model", DEMO, "--precision", "vision=int8,decoder=int4", *words, out=tmp_path / name)
        assert done.returncode == 0, done.stderr
        reports.append((tmp_path / name / "report.md").read_text())
        weights.append((tmp_path / name / "decoder.weights").read_bytes())
    assert "GPTQ on 3 conversations" in reports[0] and f"--calibration {conversations}" in reports[0]
    assert f"GPTQ on {len(read_conversations(DEFAULT).rows)} conversations" in reports[1]
    assert "--calibration" not in reports[1] and weights[0] != weights[1]
