"""SmolVLM and Idefics3 against transformers: logits, greedy tokens, and those of the bundle."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from mobilevlm import MobileVLM
from mobilevlm.image import ImageSpec, pixel_values
from mobilevlm.images.tiles import grid_of, squares_of
from mobilevlm.model.answer import prompt_ids
from mobilevlm.runtime import Session
from tests.conftest import ROOT, build_here
from tests.mobilevlm import smolvlm_files
from tests.mobilevlm.smolvlm_files import TOKENS

QUESTION = "What is on the table?"
PHOTO = Image.open(ROOT / "assets" / "table.jpg").convert("RGB")


def reference(model, ids: list[int], squares: torch.Tensor):
    """Logits and greedy tokens of transformers' model, each image's token repeated as its processor does."""
    image_id = model.config.image_token_id
    expanded = [one for index in ids for one in ([image_id] * TOKENS if index == -200 else [index])]
    inputs = dict(input_ids=torch.tensor([expanded]), pixel_values=squares[None])
    with torch.no_grad():
        logits = model(**inputs).logits
        mask = torch.ones(1, len(expanded), dtype=torch.long)
        answered = model.generate(**inputs, attention_mask=mask, max_new_tokens=10, do_sample=False)
    return logits, answered[0, len(expanded) :].tolist()


def compare(directory, out, model, images: list[Image.Image]) -> None:
    """PyTorch's logits and tokens, and the bundle's tokens, with those of transformers' model."""
    own_model = MobileVLM.from_pretrained(directory)
    config = own_model.config.model_config
    pixels = [pixel_values(image, ImageSpec.of(config)) for image in images]
    ids = prompt_ids(own_model, QUESTION, len(images), None, [grid_of(one) for one in pixels])
    squares = torch.from_numpy(np.concatenate([square for one in pixels for square in squares_of(one)]))
    logits, tokens = reference(model, ids[0].tolist(), squares)
    with torch.no_grad():
        own = own_model(ids, images=squares).logits
    assert own.shape == logits.shape
    assert (own - logits).abs().max() < 2e-4 and logits.abs().max() > 0.5
    assert own_model.generate(ids, images=squares, max_new_tokens=10, do_sample=False)[0].tolist() == tokens
    said = own_model.chat(QUESTION, images, max_new_tokens=10)
    build_here("--model", directory, out=out, precision="fp32")
    with Session(out) as session:
        reply = session.chat(QUESTION, images, max_new_tokens=10)
        assert "".join(reply) == said
        assert reply.tokens == tokens
        assert session.config == config


@pytest.mark.parametrize("kind, tied", [("smolvlm", False), ("idefics3", True)])
def test_a_model_computes_what_transformers_does(kind, tied, tmp_path):
    model = smolvlm_files.smolvlm(tmp_path / "model", kind, tie_word_embeddings=tied)
    compare(tmp_path / "model", tmp_path / "bundle", model, [PHOTO])


def test_tiled_images(tmp_path):
    """A wide and a tall image: 3 x 4 and 4 x 2 tiles of 64 pixels, and both whole."""
    model = smolvlm_files.smolvlm(tmp_path / "model", tiles=True, text={"max_position_embeddings": 1024})
    images = [PHOTO.resize((400, 260)), PHOTO.resize((130, 300))]
    compare(tmp_path / "model", tmp_path / "bundle", model, images)
