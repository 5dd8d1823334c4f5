"""Questions in a batch are answered as each would be on its own."""

import numpy as np
import pytest
from PIL import Image

from mobilevlm import MobileVLM
from mobilevlm.errors import UserError
from mobilevlm.image import ImageSpec, preprocess
from mobilevlm.model.batch import answer_batch
from tests.conftest import load_golden


@pytest.fixture(scope="module")
def model():
    return MobileVLM.from_pretrained(load_golden("v1_ldpnet_112").checkpoint)


def test_long_short_and_blind_questions_together(model):
    """Prompts of unlike lengths, with and without a picture, against `answer`, which pads nothing."""
    noise = np.random.default_rng(0).integers(0, 256, (3, 60, 90, 3)).astype(np.uint8)
    pictures = [Image.fromarray(pixels) for pixels in noise]
    asked = [
        ("What is it?", pictures[0]),
        ("Hello", None),
        ("What is to the left of the tree, and what is behind the house?", pictures[1]),
        ("Why?", pictures[2]),
    ]
    spec = ImageSpec.of(model.config.model_config)
    rows = [(text, None if picture is None else preprocess(picture, spec)) for text, picture in asked]
    expected = [model.chat(text, picture, max_new_tokens=12) for text, picture in asked]
    assert answer_batch(model, rows, max_new_tokens=12) == expected
    assert len(set(expected)) == len(expected)


def test_a_prompt_that_is_too_long_is_refused(model):
    with pytest.raises(UserError, match="too many"):
        answer_batch(model, [("Hello", None), ("why " * 4000, None)])
