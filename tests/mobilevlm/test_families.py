"""Checkpoints of other families against transformers: logits, greedy tokens, and those of the bundle."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from mobilevlm import MobileVLM
from mobilevlm.checkpoint.checkpoint import open_checkpoint
from mobilevlm.export.verification.reference import make_sample
from mobilevlm.image import ImageSpec, preprocess
from mobilevlm.model.answer import prompt_ids
from mobilevlm.runtime import Session
from tests.conftest import BUILD, ROOT, build_here, run
from tests.mobilevlm import neighbours
from tests.mobilevlm.neighbours import IMAGE_ID, SIGLIP_CONFIG

QUESTION = "What is on the table?"
PHOTO = Image.open(ROOT / "assets" / "table.jpg").convert("RGB")


def projected(features: torch.Tensor, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """TinyLLaVA's projector: two linears."""
    x = F.gelu(F.linear(features, weights["0.weight"], weights["0.bias"]))
    return F.linear(x, weights["2.weight"], weights["2.bias"])


def downsampled(features: torch.Tensor, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """VILA's projector, written patch by patch: token (i, j) of column i joins the patches of two columns, two rows."""
    grid, width = int(features.shape[1] ** 0.5), features.shape[2]
    padded = torch.zeros(grid + 1, grid + 1, width)
    padded[:grid, :grid] = features[0].view(grid, grid, width)
    tokens = [
        torch.cat([padded[2 * j + row, 2 * i + column] for row in (0, 1) for column in (0, 1)])
        for i in range((grid + 1) // 2)
        for j in range((grid + 1) // 2)
    ]
    x = F.layer_norm(torch.stack(tokens), [4 * width], weights["layers.1.weight"], weights["layers.1.bias"])
    x = F.gelu(F.linear(x, weights["layers.2.weight"], weights["layers.2.bias"]))
    return F.linear(x, weights["layers.4.weight"], weights["layers.4.bias"])[None]


def by_hand(decoder, tower, project, weights, ids: list[int], pixels: torch.Tensor, steps: int = 10):
    """Logits and greedy tokens of tower, projector and decoder put together with transformers and torch alone."""
    with torch.no_grad():
        hidden = tower(pixels, output_hidden_states=True).hidden_states[-2]
        image = project(hidden, weights)[0]
        place = ids.index(-200)
        embed = decoder.get_input_embeddings()
        before, after = embed(torch.tensor(ids[:place])), embed(torch.tensor(ids[place + 1 :]))
        rows = torch.cat([before, image, after])[None]
        logits = decoder(inputs_embeds=rows).logits
        tokens = decoder.generate(inputs_embeds=rows, max_new_tokens=steps, do_sample=False)[0].tolist()
    return logits, tokens


def hf_llava(model, ids: list[int], pixels: torch.Tensor, tokens_per_image: int, **options):
    """Logits and greedy tokens of transformers' own LLaVA, each image's token repeated as its processor does."""
    expanded = [one for index in ids for one in ([IMAGE_ID] * tokens_per_image if index == -200 else [index])]
    inputs = dict(input_ids=torch.tensor([expanded]), pixel_values=pixels)
    with torch.no_grad():
        logits = model(**inputs).logits
        tokens = model.generate(**inputs, **options, max_new_tokens=10, do_sample=False)[0, len(expanded) :].tolist()
    return logits, tokens


def compare(directory, out, reference, precision: str = "fp32", tolerance: float = 2e-4) -> None:
    """PyTorch's logits and tokens, and the bundle's tokens, with a reference's: (ids, pixels) to (logits, tokens)."""
    model = MobileVLM.from_pretrained(directory)
    config = model.config.model_config
    ids = prompt_ids(model, QUESTION, 1, None)
    pixels = torch.from_numpy(preprocess(PHOTO, ImageSpec.of(config)))
    logits, tokens = reference(ids[0].tolist(), pixels)
    with torch.no_grad():
        own = model(ids, images=pixels).logits
    assert own.shape == logits.shape
    assert (own - logits).abs().max() < tolerance and logits.abs().max() > 0.5
    assert model.generate(ids, images=pixels, max_new_tokens=10, do_sample=False)[0].tolist() == tokens
    build_here("--model", directory, out=out, precision=precision)
    with Session(out) as session:
        reply = session.chat(QUESTION, PHOTO, max_new_tokens=10)
        "".join(reply)
        assert reply.tokens == tokens
        assert session.config == config


@pytest.mark.parametrize("names", ["new", "old", "mixed"])
def test_llava_in_transformers_layout(names, tmp_path):
    """Saved by transformers, whose names are the old ones, and under the names of its version 5."""
    model = neighbours.llava_hf(tmp_path / "model")
    if names == "new":
        state = {name: value.contiguous() for name, value in model.state_dict().items()}
        neighbours.save_file(state, tmp_path / "model" / "model.safetensors", {"format": "pt"})
    if names == "mixed":  # of version 5 without `vision_model`, as a tower is saved there
        neighbours.renamed(tmp_path / "model", lambda name: name.replace("vision_tower.vision_model.", "vision_tower."))
    compare(tmp_path / "model", tmp_path / "bundle", lambda ids, pixels: hf_llava(model, ids, pixels, 16))


@pytest.mark.parametrize("layer", [-2, -1, 1])
def test_llava_with_siglip_in_transformers_layout(layer, tmp_path):
    changes = {"vision_feature_layer": layer, "vision_feature_select_strategy": "full"}
    model = neighbours.llava_hf(tmp_path / "model", SIGLIP_CONFIG, **changes)
    compare(tmp_path / "model", tmp_path / "bundle", lambda ids, pixels: hf_llava(model, ids, pixels, 25))


def test_llava_in_its_authors_layout(tmp_path):
    """The tower is beside it; the vocabulary has no rows for transformers' tokens."""
    model = neighbours.llava_hf(tmp_path / "hf")
    neighbours.llava_original(tmp_path / "model", model)

    def reference(ids, pixels):
        padding = list(range(neighbours.PIECES, neighbours.VOCABULARY))
        logits, tokens = hf_llava(model, ids, pixels, 16, suppress_tokens=padding)
        return logits[..., : neighbours.PIECES], tokens

    compare(tmp_path / "model", tmp_path / "bundle", reference)


def test_vila(tmp_path):
    decoder, tower, weights = neighbours.vila(tmp_path / "model")

    def reference(ids, pixels):
        return by_hand(decoder, tower, downsampled, weights, ids, pixels)

    compare(tmp_path / "model", tmp_path / "bundle", reference)


def test_tinyllava(tmp_path):
    decoder, tower, weights = neighbours.tinyllava(tmp_path / "model")

    def reference(ids, pixels):
        return by_hand(decoder, tower, projected, weights, ids, pixels)

    compare(tmp_path / "model", tmp_path / "bundle", reference)


def test_the_downsampled_tokens_number_196_of_27_patches():
    from mobilevlm.model.projectors import num_image_tokens
    from mobilevlm.presets import PRESETS

    assert num_image_tokens(PRESETS["vila_1.5_3b"]) == 196
    assert num_image_tokens(PRESETS["llava_1.5_7b"]) == 576
    assert np.prod(PRESETS["vila_1.5_3b"].tower.grid) == 27


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("family", ["llava", "vila"])
def test_quantised_bundles_are_verified_and_answer(family, precision, tmp_path):
    """The build compares every stage with PyTorch; what it lets through is opened and asked."""
    write = neighbours.llava_hf if family == "llava" else neighbours.vila
    write(tmp_path / "model")
    build_here("--model", tmp_path / "model", out=tmp_path / "bundle", precision=precision)
    with Session(tmp_path / "bundle") as session:
        assert session.config.conv_mode == ("llava_hf" if family == "llava" else "vicuna_v1")
        assert "".join(session.chat(QUESTION, [PHOTO, PHOTO.rotate(90)], max_new_tokens=8))


@pytest.mark.slow
@pytest.mark.parametrize(
    "target, precision", [("orin", "fp16"), ("orin", "int8"), ("snapdragon-cpu", "int8"), ("snapdragon", "a16w8")]
)
def test_bundles_for_boards_are_verified(target, precision, tmp_path):
    """VILA for devices that are not here: graphs that keep TensorRT's rules, and weights in a phone's form."""
    neighbours.vila(tmp_path / "model")
    words = ["--model", tmp_path / "model", "--target", target, "--precision", precision, "--out", tmp_path / "bundle"]
    words += ["--no-compile"] * (target == "snapdragon")
    done = run(BUILD, *words)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("family", ["llava", "vila"])
def test_the_sample_has_values_that_an_image_has(family, tmp_path):
    """Others were cut off where ranges are fixed: SigLIP's end at -1 and 1, and its towers were refused for that."""
    (neighbours.llava_hf if family == "llava" else neighbours.vila)(tmp_path)
    checkpoint = open_checkpoint(tmp_path)
    spec, sample = ImageSpec.of(checkpoint.config), make_sample(checkpoint)
    extremes = [preprocess(Image.new("RGB", (9, 9), color), spec).reshape(3, -1)[:, 0] for color in ("black", "white")]
    found = sample.pixel_values.numpy()[0].reshape(3, -1)
    assert (found.min(1) >= extremes[0] - 1e-6).all() and (found.max(1) <= extremes[1] + 1e-6).all()
    assert (found.max(1) - found.min(1) > 0.9 * (extremes[1] - extremes[0])).all()
