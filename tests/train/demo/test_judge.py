"""The judge: answers of a batch are those of one question at a time, and right is what a person would call right."""

import random

import pytest

from mobilevlm import MobileVLM
from mobilevlm.train.demo.draw import draw_scene
from mobilevlm.train.demo.judge import KINDS, heldout, is_right, predict
from mobilevlm.train.demo.question import Question
from mobilevlm.train.demo.scenes import sample_scene
from tests.conftest import load_golden


def test_a_batch_answers_like_one_question_at_a_time():
    """Prompts of different lengths, with and without a picture, against `chat`, which pads nothing."""
    model = MobileVLM.from_pretrained(load_golden("v2_ldpnetv2_336").checkpoint)
    picture = draw_scene(sample_scene(random.Random(0)), random.Random(0), 192)
    asked = [
        (picture, "What is this?"),
        (None, "Hello, how do you do today?"),
        (picture, "Say more about the picture."),
    ]
    answers = predict(model, asked, max_new_tokens=8)
    for (image, text), answer in zip(asked, answers, strict=True):
        assert answer == model.chat(text, image, max_new_tokens=8, temperature=0)


@pytest.mark.parametrize(
    ("kind", "wanted", "answer", "right"),
    [
        ("existence", "Yes", "Yes, there is a red star.", True),
        ("existence", "Yes", "No, there is no red star.", False),
        ("existence", "No", "no", True),
        ("count", "3", "There are 3 stars.", True),
        ("count", "3", "three", True),
        ("count", "3", "13", False),
        ("count", "3", "There are 2 stars and 3 circles.", False),
        ("relation", "left", "The star is to the left of the circle.", True),
        ("relation", "left", "right", False),
        ("place", "top left", "The star is in the top left.", True),
        ("place", "top", "top left", False),
        ("color", "gray", "The star is grey.", True),
        ("number", "47", "The number is 47.", True),
        ("number", "47", "74", False),
        ("number", "47", "147", False),
        ("shape", "oval", "It is an oval.", True),
        ("shape", "oval", "oval or circle", False),
        ("color", "red", "red and blue", False),
        ("chart", "bar chart", "This is a bar chart.", True),
    ],
)
def test_right_and_wrong(kind, wanted, answer, right):
    assert is_right(Question(kind, "?", wanted, wanted), answer) is right


def test_held_out_questions_are_even_and_repeatable():
    asked = heldout(3)
    kinds = [question.kind for _, _, question in asked]
    assert set(kinds) == set(KINDS) and all(kinds.count(kind) == 3 for kind in kinds)
    assert [text for _, text, _ in asked] == [text for _, text, _ in heldout(3)]
