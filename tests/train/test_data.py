"""Training rows and batches, against the original's; and what broken rows do: give way, and be counted."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from mobilevlm.checkpoint.checkpoint import open_checkpoint
from mobilevlm.errors import UserError
from mobilevlm.image import ImageSpec
from mobilevlm.text.prompt import IGNORE_INDEX, IMAGE_TOKEN_INDEX
from mobilevlm.text.templates import TEMPLATES
from mobilevlm.text.tokenizer import Tokenizer
from mobilevlm.train.data import NOTES, Collator, TrainingRows, read_rows
from tests.conftest import GOLDEN, GOLDEN_MODELS

BATCH = GOLDEN / "v1_ldpnet_112" / "train_batch"
V1 = TEMPLATES["v1"]


def golden_rows(model, template):
    """The golden batch's rows: stage 1 crops, stage 2 pads."""
    checkpoint = open_checkpoint(GOLDEN / model / "ckpt_safetensors")
    rows = read_rows(BATCH / f"{template}.json")
    spec = replace(ImageSpec.of(checkpoint.config), aspect_ratio={"plain": "square", "v1": "pad"}[template])
    return TrainingRows(rows, checkpoint.tokenizer(), TEMPLATES[template], 2048, spec, BATCH)


@pytest.mark.parametrize("model", GOLDEN_MODELS)
@pytest.mark.parametrize("template", ["plain", "v1"])
def test_batches_are_the_originals(model, template):
    golden = np.load(GOLDEN / model / "train_batch" / f"{template}.npz")
    rows = golden_rows(model, template)
    batch = Collator(pad_id=0, max_length=2048)([rows[number] for number in range(len(rows))])
    for name in ("input_ids", "labels", "attention_mask"):
        assert np.array_equal(batch[name], golden[name]), name
    if "images" in golden:
        np.testing.assert_allclose(batch["images"], golden["images"], atol=1e-6)
    else:
        np.testing.assert_allclose(batch["images"].double().sum((1, 2, 3)), golden["images_sum"], rtol=1e-5)
    assert batch[NOTES] == []
    summary = json.loads((GOLDEN / model / "train_batch" / "summary.json").read_text())
    assert list(rows.lengths) == summary[template]["modality_lengths"]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(GOLDEN / "_common" / "tokenizer_small")


def talk(question, answer="Yes."):
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


def dataset(rows, tokenizer, **options):
    options = {"image_spec": ImageSpec(28), "images_dir": BATCH, "max_length": 2048} | options
    return TrainingRows(rows, tokenizer, V1, **options)


def test_a_missing_picture_gives_way_to_the_next_row_with_one(tokenizer):
    rows = [
        {"id": "lost", "image": "lost.png", "conversations": talk("<image>\nFirst?")},
        {"id": "text", "conversations": talk("Second?")},
        {"id": "good", "image": "0.png", "conversations": talk("<image>\nThird?")},
    ]
    data = dataset(rows, tokenizer)
    assert torch.equal(data[0]["input_ids"], data[2]["input_ids"])
    [(number, kind, text)] = data[0][NOTES]
    assert (number, kind) == (0, "replaced")
    assert "lost.png" in text and "id lost" in text
    assert data[1]["images"].shape == (1, 3, 28, 28)
    assert not data[1]["images"].any()


MALFORMED = {
    "conversations is missing": {"id": "a"},
    "turn 1 has no text": {"conversations": [{"from": "human"}]},
    "turns are empty": {"conversations": talk(" ", "")},
    "have to alternate": {"conversations": talk("a") + talk("b")[1:]},
    "not a path or a list": {"image": 7, "conversations": talk("<image>")},
    "1 image(s) and 0 time(s)": {"image": "0.png", "conversations": talk("Which?")},
    "2 image(s) and 1 time(s)": {"image": ["0.png", "1.png"], "conversations": talk("<image> Which?")},
}


@pytest.mark.parametrize("problem", MALFORMED)
def test_a_malformed_row_is_found_up_front_and_gives_way(tokenizer, problem):
    rows = [MALFORMED[problem] | {"id": "bad"}, {"image": "0.png", "conversations": talk("<image>\nGood?")}]
    data = dataset(rows, tokenizer)
    assert problem in data.malformed[0]
    assert torch.equal(data[0]["input_ids"], data[1]["input_ids"])
    [(number, kind, text)] = data[0][NOTES]
    assert (number, kind) == (0, "replaced")
    assert "row 0 (id bad) is replaced" in text and problem in text


def test_no_usable_row_is_an_error(tokenizer):
    with pytest.raises(UserError, match="none of the 1 rows"):
        dataset([{"id": 1}], tokenizer)
    lost = dataset([{"id": "x", "image": "lost.png", "conversations": talk("<image>")}], tokenizer)
    with pytest.raises(UserError, match=r"lost\.png"):
        lost[0]


def test_one_picture_may_be_named_twice_in_a_turn_and_lists_count(tokenizer):
    rows = [
        {"image": "0.png", "conversations": talk("<image> and <image>?")},
        {"image": ["0.png", "1.png"], "conversations": talk("<image> or <image>?")},
    ]
    data = dataset(rows, tokenizer)
    assert [int((data[i]["input_ids"] == IMAGE_TOKEN_INDEX).sum()) for i in (0, 1)] == [1, 2]
    batch = Collator(0, 2048)([data[1], data[0]])
    assert batch["images"].shape == (3, 3, 28, 28)
    assert torch.equal(batch["images"][0], batch["images"][2])


def test_what_is_cut_takes_its_pictures_along(tokenizer):
    rows = [
        {"image": ["0.png", "1.png"], "conversations": talk("<image> a?") + talk("<image> b?")},
        {"conversations": talk("c?")},
    ]
    data = dataset(rows, tokenizer)
    second = (data[0]["input_ids"] == IMAGE_TOKEN_INDEX).nonzero()[1].item()
    batch = Collator(0, second)([data[0], data[1]])
    assert batch["input_ids"].shape == batch["labels"].shape == (2, second)
    assert len(batch["images"]) == 2  # the first row's first, and the text's zeros


def test_text_alone_has_no_images(tokenizer):
    data = dataset(
        [{"conversations": talk("a?")}, {"image": "0.png", "conversations": talk("b?")}], tokenizer, image_spec=None
    )
    assert "sees none" in data.malformed[1]
    batch = Collator(0, 2048)([data[0], data[1]])
    assert "images" not in batch
    assert (batch["labels"] != IGNORE_INDEX).any()


def test_lengths_are_rounded_up_and_the_rest_counts_for_nothing(tokenizer):
    """Against the batch as long as its longest row: the same, and behind it padding that is masked and not learned."""
    data = dataset([{"conversations": talk("a?")}, {"image": "0.png", "conversations": talk("<image> b?")}], tokenizer)
    plain, padded = (Collator(0, 2048, step)([data[0], data[1]]) for step in (1, 64))
    length = plain["input_ids"].shape[1]
    assert length % 64 and padded["input_ids"].shape[1] == length + -length % 64
    for name in ("input_ids", "labels", "attention_mask"):
        assert torch.equal(padded[name][:, :length], plain[name])
    assert not padded["attention_mask"][:, length:].any()
    assert (padded["labels"][:, length:] == IGNORE_INDEX).all()


def test_rows_from_a_file_are_those_of_a_list_in_workers_too(tokenizer, tmp_path):
    rows = [{"image": "0.png", "conversations": talk(f"<image>\nNumber {number}?")} for number in range(5)]
    rows += [{"id": "odd"}, {"conversations": talk("Of text?")}]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    lazy, eager = dataset(read_rows(tmp_path / "rows.json"), tokenizer), dataset(rows, tokenizer)
    assert (lazy.malformed, lazy.lengths) == (eager.malformed, eager.lengths)
    assert list(lazy.lengths) == [4] * 5 + [1, -3]
    for number, batch in enumerate(DataLoader(lazy, 1, collate_fn=Collator(0, 2048), num_workers=2)):
        assert torch.equal(batch["input_ids"][0], eager[number]["input_ids"])
        assert batch[NOTES] == eager[number][NOTES]
