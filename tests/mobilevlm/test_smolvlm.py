"""SmolVLM and Idefics3 against transformers: logits, greedy tokens, and those of the bundle."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from mobilevlm import MobileVLM
from mobilevlm.errors import UserError
from mobilevlm.image import ImageSpec, pixel_values
from mobilevlm.images.tiles import grid_of, squares_of
from mobilevlm.model.answer import prompt_ids
from mobilevlm.runtime import Session
from mobilevlm.runtime.dialogue import Dialogue
from tests.conftest import ROOT, build_here
from tests.mobilevlm import smolvlm_files
from tests.mobilevlm.neighbours import write_json
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


def test_a_closed_question_and_json_in_tiles(tmp_path):
    """Choices get probabilities, a schema is kept, and a dialogue shows a second tiled image."""
    smolvlm_files.smolvlm(tmp_path / "model", tiles=True, text={"max_position_embeddings": 1024})
    build_here("--model", tmp_path / "model", out=tmp_path / "bundle", precision="int8")
    with Session(tmp_path / "bundle") as session:
        choice = session.choose(QUESTION, ["a cup", "a car"], PHOTO)
        assert abs(sum(choice.probabilities) - 1) < 1e-6
        schema = {"type": "object", "properties": {"n": {"enum": [1, 23]}}, "required": ["n"]}
        answered = json.loads("".join(session.chat(QUESTION, PHOTO, schema=schema, max_new_tokens=64)))
        assert answered["n"] in (1, 23)
        talk = Dialogue(session)
        first = talk.ask(QUESTION, PHOTO, max_new_tokens=4)
        "".join(first)
        second = talk.ask("And here?", PHOTO.resize((90, 200)), max_new_tokens=4)
        "".join(second)
        assert second.statistics.reused_tokens >= first.statistics.prompt_tokens
        with pytest.raises(UserError, match="image tiles of 4"):
            session.chat(QUESTION, [PHOTO] * 20)


def test_patches_that_transformers_puts_elsewhere_are_refused(tmp_path):
    """25 patches a side: its rounded fractions give ten rows the position of the row before."""
    smolvlm_files.smolvlm(tmp_path, vision={"image_size": 200}, scale_factor=5)
    settings = smolvlm_files.PROCESSOR | {"max_image_size": {"longest_edge": 200}}
    write_json(tmp_path / "preprocessor_config.json", settings)
    with pytest.raises(UserError, match="25 patches a side"):
        MobileVLM.from_pretrained(tmp_path)
    write_json(tmp_path / "preprocessor_config.json", smolvlm_files.PROCESSOR)
    with pytest.raises(UserError, match="max_image_size 64, the tower 200"):
        MobileVLM.from_pretrained(tmp_path)
