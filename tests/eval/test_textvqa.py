"""TextVQA: questions as LLaVA's file has them, found again by picture and text, scored by the official rule."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mobilevlm.errors import UserError
from mobilevlm.eval.task import SHORT_ANSWER, Answer
from mobilevlm.eval.tasks.textvqa import TextVqa, question_in

FOLDER = Path("benchmark_data/textvqa")
ENTRIES = [
    {"question_id": 34602, "image_id": "003a8ae2", "question": "What Brand is it?", "answers": ["nokia"] * 10},
    # Agreement of 2 of 10 is worth 0.6, see test_m4c.py.
    {"question_id": 34603, "image_id": "003a8ae2", "question": "what year?", "answers": ["2010"] * 2 + ["no"] * 8},
    {"question_id": 34604, "image_id": "f00d", "question": "who?", "answers": ["nobody"] * 10},
]


def prompt(question: str, ocr: str | None = "NOKIA, 2010") -> str:
    return question + (f"\nReference OCR token: {ocr}" if ocr is not None else "") + SHORT_ANSWER


@pytest.fixture
def data(tmp_path) -> Path:
    folder = tmp_path / FOLDER
    folder.mkdir(parents=True)
    (folder / "TextVQA_0.5.1_val.json").write_text(json.dumps({"dataset_type": "val", "data": ENTRIES}))
    rows = [
        {"question_id": entry["image_id"], "image": f"{entry['image_id']}.jpg", "text": prompt(entry["question"])}
        for entry in ENTRIES
    ]
    (folder / "llava_textvqa_val_v051_ocr.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def answers() -> list[Answer]:
    """Right, agreed on by two of ten, wrong."""
    return [
        Answer("003a8ae2", prompt("What Brand is it?"), "Nokia."),
        Answer("003a8ae2", prompt("what year?"), "2010"),
        Answer("f00d", prompt("who?"), "somebody"),
    ]


def accuracy(data: Path, given: list[Answer]) -> float:
    task = TextVqa()
    return task.metrics(task.counts(data, given).total())[task.headline]


def test_questions(data):
    first, second, third = TextVqa().questions(data)
    assert (first.id, second.id, third.id) == ("003a8ae2", "003a8ae2", "f00d")
    text = "What Brand is it?\nReference OCR token: NOKIA, 2010\nAnswer the question using a single word or phrase."
    assert first.text == first.prompt == text
    assert first.image == data / FOLDER / "train_images/003a8ae2.jpg"
    assert (first.square, first.max_new_tokens) == (False, 128)


def test_score(data):
    counts = TextVqa().counts(data, answers())
    assert counts.ids == ["003a8ae2/what brand is it?", "003a8ae2/what year?", "f00d/who?"]
    assert counts.rows.tolist() == [[1, 1], [0.6, 1], [0, 1]]
    assert accuracy(data, answers()) == pytest.approx(100 * 1.6 / 3)


def test_part_of_the_questions(data):
    assert accuracy(data, answers()[1:2]) == pytest.approx(60)
    assert TextVqa().counts(data, []).rows.shape == (0, 2)
    assert accuracy(data, []) == 0


def test_failed_answer_is_wrong(data):
    failed = Answer("003a8ae2", prompt("What Brand is it?"), "nokia", failed=True)
    assert accuracy(data, [failed]) == 0


def test_the_same_question_twice_is_one_unit(data):
    """Two entries alike: the last has the references, and both answers count."""
    path = data / FOLDER / "TextVQA_0.5.1_val.json"
    again = ENTRIES[0] | {"question_id": 1, "question": "WHAT brand is it?", "answers": ["sony"] * 10}
    path.write_text(json.dumps({"data": [*ENTRIES, again]}))
    said = [Answer("003a8ae2", prompt("What Brand is it?"), text) for text in ("sony", "nokia")]
    counts = TextVqa().counts(data, said)
    assert counts.ids == ["003a8ae2/what brand is it?"]
    assert counts.rows.tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("text", "question"),
    [
        (prompt("What Is it?"), "what is it?"),
        (prompt("What Is it?", ocr=""), "what is it?"),
        (prompt("What Is it?", ocr=None), "what is it?"),
        ("Reference OCR token: NOKIA\nWhat Is it?\nAnswer shortly.", "what is it?"),
        ("What is it?\nand this?\nAnswer shortly.", None),
        ("What is it?", None),
        ("What is it?\nReference OCR token: a\nb\nAnswer shortly.", None),
    ],
)
def test_question_in_a_prompt(text, question):
    assert question_in(text) == question


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer("f00d", prompt("where?"), "x"), "TextVQA has no question 'where\\?' about image f00d"),
        (Answer("003a8ae2", prompt("who?"), "x"), "TextVQA has no question 'who\\?' about image 003a8ae2"),
        (Answer("f00d", "who?", "x"), "the answer to f00d has the prompt 'who\\?'"),
    ],
)
def test_answers_of_something_else(data, answer, message):
    with pytest.raises(UserError, match=message):
        TextVqa().counts(data, [answer])
    with pytest.raises(UserError, match=message):
        TextVqa().submission(data, [answer], data)


def test_submission_has_the_data_sets_own_ids(data, tmp_path):
    (path,) = TextVqa().submission(data, answers(), tmp_path)
    assert json.loads(path.read_text()) == [
        {"question_id": 34602, "answer": "Nokia."},
        {"question_id": 34603, "answer": "2010"},
        {"question_id": 34604, "answer": "somebody"},
    ]


BAD = {
    "a list": ([], "has no list `data`"),
    "no object": ({"data": [ENTRIES[0], 5]}, "row 1 of `data`: it is no object"),
    "nine answers": ({"data": [ENTRIES[0] | {"answers": ["x"] * 9}]}, "row 0 of `data`: answers is .* where 10 texts"),
    "a number": ({"data": [ENTRIES[0] | {"answers": ["x"] * 9 + [1]}]}, "row 0 of `data`: answers is"),
    "no question": ({"data": [{**ENTRIES[0], "question": None}]}, "row 0 of `data`: question is None"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_annotations(data, name):
    content, message = BAD[name]
    (data / FOLDER / "TextVQA_0.5.1_val.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=message) as caught:
        TextVqa().counts(data, [])
    assert "TextVQA_0.5.1_val.json" in str(caught.value)
    assert "Download it again: benchmark_data.zip of MobileVLM's release" in str(caught.value)


def test_missing_files(tmp_path):
    with pytest.raises(UserError, match="llava_textvqa_val_v051_ocr.jsonl is missing: download benchmark_data.zip"):
        TextVqa().questions(tmp_path)
    with pytest.raises(UserError, match="TextVQA_0.5.1_val.json is missing: download benchmark_data.zip"):
        TextVqa().counts(tmp_path, [])
