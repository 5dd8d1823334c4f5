"""The judge: answers of a batch are those of one question at a time, and right is what a person would call right."""

import random

import pytest

from mobilevlm import MobileVLM
from mobilevlm.train.demo.judge import KINDS, KINDS_WIDE, heldout, heldout_wide, is_right, predict
from mobilevlm.train.demo.questions.question import Question
from mobilevlm.train.demo.world.draw import draw_scene
from mobilevlm.train.demo.world.scenes import sample_scene
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
        ("two numbers", "12 and 47", "The numbers are 12 and 47.", True),
        ("two numbers", "12 and 47", "12, 47", True),
        ("two numbers", "12 and 47", "47 and 12", False),
        ("two numbers", "12 and 47", "12", False),
        ("two numbers", "12 and 47", "12, 47 and 5", False),
        ("number", "1, 2 and 3", "It says 1, 2 and 3.", True),
        ("number", "1, 2 and 3", "It says 1, 3 and 2.", False),
        ("word", "LEFT and 47", "It says LEFT and 47.", True),
        ("word", "LEFT", "The word on the left is RIGHT.", False),
        ("word", "LEFT", "The word on the left is LEFT.", True),
        ("word", "red", "The red word is blue.", False),
        ("word", "NO", "The word is NO.", True),
        ("ends", "red", "The leftmost shape is red.", True),
        ("ends", "red", "red and blue", False),
        ("ends", "star", "The second shape from the left is a star.", True),
        ("ends", "star", "A star or a heart.", False),
        ("ends", "red star", "A red star is between the blue circle and the oval.", True),
        ("ends", "red star", "The topmost shape is a red star.", True),
        ("ends", "red star", "A red star and a blue circle.", False),
        ("ends", "red star", "star", False),
        ("ends", "Yes", "Yes, the leftmost shape is red.", True),
        ("relation", "red star", "A red star is above the blue circle.", True),
    ],
)
def test_right_and_wrong(kind, wanted, answer, right):
    assert is_right(Question(kind, "?", wanted, wanted), answer) is right


def test_a_word_that_is_a_colour_is_not_taken_for_one():
    """The word RED may be blue."""
    question = Question("color", "What colour is RED?", "blue", "RED is blue.", about="RED")
    assert is_right(question, "The word RED is blue.") and not is_right(question, "RED is red.")
    assert is_right(Question("color", "?", "red", "RED is red.", about="RED"), "RED is red.")


def test_held_out_questions_are_even_and_repeatable():
    asked = heldout(3)
    kinds = [question.kind for _, _, question in asked]
    assert set(kinds) == set(KINDS) and all(kinds.count(kind) == 3 for kind in kinds)
    assert [text for _, text, _ in asked] == [text for _, text, _ in heldout(3)]


def test_wide_held_out_questions_are_even_and_repeatable():
    """Those about one of several numbers are of a kind of their own; lists are among them."""
    asked = heldout_wide(4)
    kinds = [question.kind for _, _, question in asked]
    assert set(kinds) == set(KINDS_WIDE) and all(kinds.count(kind) == 4 for kind in kinds)
    assert [text for _, text, _ in asked] == [text for _, text, _ in heldout_wide(4)]
    assert all(is_right(question, question.long) for _, _, question in asked if question.kind != "compare")
    assert all(is_right(question, question.short) for _, _, question in asked)
    assert {question.kind for _, _, question in heldout_wide(2, kinds=("ends", "word"))} == {"ends", "word"}
