"""Which tokens are learned, against the original's labels."""

import json
import shutil
from dataclasses import replace

import pytest

from mobilevlm.text.prompt import IGNORE_INDEX, IMAGE_TOKEN_INDEX
from mobilevlm.text.templates import TEMPLATES, template
from mobilevlm.text.tokenizer import Tokenizer
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


def by_hand(tokenizer, *stretches):
    """Ids and labels of pieces written down: stretches that are not learned and learned, in turn."""
    ids, labels = [], []
    for number, stretch in enumerate(stretches):
        new = [IMAGE_TOKEN_INDEX if piece == "<image>" else tokenizer.token_to_id(piece) for piece in stretch.split()]
        assert None not in new
        ids += new
        labels += new if number % 2 else [IGNORE_INDEX] * len(new)
    return ids, labels


TALK = [("human", "Is it red? <image>"), ("gpt", "No."), ("human", "a b?"), ("gpt", "Yes.")]
SYSTEM = "▁[ I N S T ] ▁ < < S Y S >> <0x0A> B e . <0x0A> < < / S Y S >> <0x0A> <0x0A>"  # [INST] <<SYS>> ... <</SYS>>


def test_llama_2_by_hand(tokenizer):
    """Learned is each answer with the space before it, the one behind it, and `</s>`.

    A round's own BOS counts for the `</s>` behind it. The question is counted with `[/INST] ` to its end and two off:
    BOS, and the space at the end, which in the prompt is the answer's first piece.
    """
    got = mask(TALK, replace(TEMPLATES["llama_2"], system="Be."), tokenizer, True, 2048)
    ids, labels = by_hand(
        tokenizer,
        f"<s> {SYSTEM} <image> ▁ <0x0A> I s ▁it ▁re d ? ▁[ / I N S T ]",
        "▁N o . ▁ </s>",
        "<s> ▁[ I N S T ] ▁a ▁b ? ▁[ / I N S T ]",
        "▁ Y es . ▁ </s>",
    )
    assert (got.input_ids, got.labels, got.warning) == (ids, labels, "")


def test_llama_2_does_not_learn_what_holds_its_separator(tokenizer):
    """Counting ends at the first round, before which is BOS alone."""
    talk = [("human", "Is it red?"), ("gpt", "[/INST] No."), *TALK[2:]]
    got = mask(talk, replace(TEMPLATES["llama_2"], system="Be."), tokenizer, False, 2048)
    assert set(got.labels) == {IGNORE_INDEX}
    assert got.warning == f"WARNING: tokenization mismatch: 1 vs. {len(got.input_ids)}. (ignored)"


def test_mpt_by_hand_with_a_tokenizer_of_its_kind(tokenizer, tmp_path):
    """No BOS, `<|im_start|>` and `<|im_end|>` are tokens. Learned is each answer with the `<|im_end|>` behind it."""
    shutil.copytree(GOLDEN / "_common" / "tokenizer_small", tmp_path / "chatml")
    config = tmp_path / "chatml" / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"add_bos_token": False}))
    chatml = Tokenizer(tmp_path / "chatml")
    chatml.add_tokens(["<|im_start|>", "<|im_end|>"])
    got = mask(TALK, replace(template("mpt"), system="<|im_start|>system\nBe."), chatml, True, 2048)
    ids, labels = by_hand(
        chatml,
        "<|im_start|> ▁sys tem <0x0A> B e . <|im_end|> <|im_start|> ▁us er <0x0A> <image> ▁ <0x0A> I s ▁it ▁re d ? "
        "<|im_end|> <|im_start|> ▁as s ist ant <0x0A>",
        "N o . <|im_end|>",
        "<|im_start|> ▁us er <0x0A> a ▁b ? <|im_end|> <|im_start|> ▁as s ist ant <0x0A>",
        "Y es . <|im_end|>",
    )
    assert (got.input_ids, got.labels, got.warning) == (ids, labels, "")


def test_mpt_learns_nothing_with_llamas_tokenizer(tokenizer):
    """Which gives every round and separator a BOS and a space of its own: as in the original, nothing adds up.

    By hand: 121 tokens; counted are a BOS and a space too many for the second round and for each of two separators.
    """
    got = mask(TALK, replace(template("mpt"), system="<|im_start|>system\nBe."), tokenizer, True, 2048)
    assert len(got.input_ids) == 121
    assert set(got.labels) == {IGNORE_INDEX}
    assert got.warning == "WARNING: tokenization mismatch: 127 vs. 121. (ignored)"


def test_the_oldest_format_by_hand(tokenizer):
    """Of a question all but two tokens is masked, then as many as a BOS and a space of its own push it too far.

    Pieces, counted alone: `Be.` and two line ends 6, the first question 17 (15 here), its answer 15 (13), the second
    question 14 (12). So masked are tokens 0 to 5, 8 to 22 and 40 to 51.
    """
    talk = [("human", "Is it red?"), *TALK[1:]]
    got = mask(talk, replace(TEMPLATES["default"], system="Be."), tokenizer, False, 2048)
    ids, labels = by_hand(
        tokenizer,
        "<s> ▁B e . <0x0A> <0x0A>",
        "# #",
        "# ▁ H um an : ▁I s ▁it ▁re d ? <0x0A> # #",
        "# ▁A s s ist ant : ▁N o . <0x0A> # # # ▁ H um",
        "an : ▁a ▁b ? <0x0A> # # # ▁A s s",
        "ist ant : ▁ Y es . <0x0A> # # # ▁",
    )
    assert [number for number, label in enumerate(labels) if label == IGNORE_INDEX] == [
        *range(6),
        *range(8, 23),
        *range(40, 52),
    ]
    assert (got.input_ids, got.labels, got.warning) == (ids, labels, "")


def test_a_tagged_template_frames_its_images(tokenizer):
    got = mask(
        [("human", "a <image>"), ("gpt", "No.")], replace(template("llava_v1_mmtag"), system="Be."), tokenizer, True, 99
    )
    ids, labels = by_hand(
        tokenizer,
        "<s> ▁B e . ▁U S E R : ▁ < I m age > <image> ▁ < / I m age > <0x0A> a ▁A S S I S T A N T :",
        "▁N o . </s>",
    )
    assert (got.input_ids, got.labels, got.warning) == (ids, labels, "")


def test_plain_never_frames_its_images(tokenizer):
    """Not even with `mm_use_im_start_end`: the original puts a bare `<image>` in the question's place."""
    turns = [("human", "<image>\nWhat?"), ("gpt", "a b")]
    got = mask(turns, TEMPLATES["plain"], tokenizer, True, 2048, start_end=True)
    assert (got.input_ids, got.labels) == by_hand(tokenizer, "<s> <image>", "▁a ▁b <0x0A>")


@pytest.mark.parametrize(("name", "pieces"), [("v1", ""), ("llama_2", ""), ("default", "# #")])
def test_of_a_question_that_is_cut_nothing_is_learned(tokenizer, name, pieces):
    """Nothing but the two tokens that the oldest format always learns."""
    got = mask([("human", "one two " * 200), ("gpt", "Yes.")], template(name), tokenizer, False, 300)
    assert len(got.input_ids) == 300
    assert got.warning == ""
    kept = [label for label in got.labels if label != IGNORE_INDEX]
    assert kept == [tokenizer.token_to_id(piece) for piece in pieces.split()]


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
