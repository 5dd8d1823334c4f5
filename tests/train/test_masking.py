"""Which tokens are learned, against the original's labels."""

import json

import pytest

from mobilevlm.prompt import IGNORE_INDEX, IMAGE_TOKEN_INDEX
from mobilevlm.templates import TEMPLATES, template
from mobilevlm.tokenizer import Tokenizer
from mobilevlm.train.masking import RowError, mask
from tests.conftest import GOLDEN

GOLDEN_ROWS = json.loads((GOLDEN / "_common" / "label_masking.json").read_text())["small"]
ROWS = [(name, row) for name, rows in GOLDEN_ROWS.items() for row in rows]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(GOLDEN / "_common" / "tokenizer_small")


def turns(sample):
    return [(turn["from"], turn["value"]) for turn in sample["conversations"]]


@pytest.mark.parametrize(("name", "row"), ROWS)
def test_ids_and_labels_are_the_originals(tokenizer, name, row):
    golden = GOLDEN_ROWS[name][row]
    got = mask(turns(golden["sample"]), template(name), tokenizer, golden["has_image"], 2048)
    assert got.input_ids == golden["input_ids"]
    assert got.labels == golden["labels"]
    assert got.warning == golden["printed_warning"].strip()
    assert sum(label != IGNORE_INDEX for label in got.labels) == golden["n_supervised"]


def learned(tokenizer, masked):
    return tokenizer.decode([label for label in masked.labels if label != IGNORE_INDEX], skip_special_tokens=False)


def test_llama_2_learns_its_answers(tokenizer):
    talk = [("human", "<image>\nIs it big?"), ("gpt", "No."), ("human", "Sure?"), ("gpt", "Yes.")]
    got = mask(talk, TEMPLATES["llama_2"], tokenizer, True, 2048)
    assert got.warning == ""
    assert [word in learned(tokenizer, got) for word in ("No.", "Yes.", "big", "Sure")] == [True, True, False, False]


def test_the_oldest_format_learns_all_but_the_questions(tokenizer):
    got = mask([("human", "Is it big?"), ("gpt", "No.")], TEMPLATES["default"], tokenizer, False, 2048)
    assert "No." in learned(tokenizer, got)
    assert "big" not in learned(tokenizer, got)


def test_several_images_stand_in_front_of_the_question(tokenizer):
    got = mask([("human", "Compare <image> with <image>"), ("gpt", "Same.")], TEMPLATES["v1"], tokenizer, True, 2048)
    assert got.input_ids.count(IMAGE_TOKEN_INDEX) == 2
    assert got.warning == ""
    captioned = mask([("human", "<image><image>"), ("gpt", "Same.")], TEMPLATES["plain"], tokenizer, True, 2048)
    assert captioned.labels[:3] == [IGNORE_INDEX] * 3
    assert captioned.labels[3:] == captioned.input_ids[3:]


def test_an_image_token_in_a_row_without_images_is_text(tokenizer):
    got = mask([("human", "What is <image> in HTML?"), ("gpt", "A tag.")], TEMPLATES["v1"], tokenizer, False, 2048)
    assert IMAGE_TOKEN_INDEX not in got.input_ids
    assert "A tag." in learned(tokenizer, got)


def test_long_text_is_cut_and_still_learned(tokenizer):
    got = mask([("human", "Count."), ("gpt", "one two three " * 50)], TEMPLATES["v1"], tokenizer, False, 150)
    assert len(got.input_ids) == 150
    assert got.warning == ""
    assert got.labels[-1] == got.input_ids[-1]


@pytest.mark.parametrize(
    ("name", "talk", "problem"),
    [
        ("v1", [("human", "a"), ("human", "b")], "alternate"),
        ("v1", [("gpt", "a")], "no turns"),
        ("plain", [("human", "a"), ("gpt", "b")], "<image>"),
        ("plain", [("human", "<image>"), ("gpt", "b"), ("human", "c")], "two turns"),
    ],
)
def test_a_conversation_of_another_form_is_refused(tokenizer, name, talk, problem):
    with pytest.raises(RowError, match=problem):
        mask(talk, template(name), tokenizer, True, 2048)
