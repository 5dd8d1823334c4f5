"""Annotation files are read alike whatever the buffer, and rows judged as training judges them."""

from __future__ import annotations

import json

import pytest

from mobilevlm.rows import annotations
from mobilevlm.rows.annotations import AnnotationError, read_placed, read_rows
from mobilevlm.rows.rules import form_of, images_of, problem_of
from mobilevlm.text.templates import MORE_TEMPLATES, TEMPLATES
from mobilevlm.text.tokenizer import Tokenizer
from mobilevlm.train.masking import mask
from tests.conftest import GOLDEN

TURNS = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A square."}]
TEXT_ROW = {"id": "text", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 20])
@pytest.mark.parametrize("layout", [{"indent": 2}, {"separators": (",", ":")}, {"ensure_ascii": False}])
def test_rows_do_not_depend_on_the_buffer(monkeypatch, tmp_path, chunk, layout):
    rows = [{"id": n, "text": 'a "quoted" ö 日本 \\ \n' * n, "deep": [[{"n": n / 3}]]} for n in range(20)]
    (tmp_path / "rows.json").write_text(" \n" + json.dumps(rows, **layout) + "\n \n")
    monkeypatch.setattr(annotations, "_CHUNK", chunk)
    read = []
    assert list(read_rows(tmp_path / "rows.json", read.append)) == rows
    content = (tmp_path / "rows.json").read_bytes()
    assert sum(read) <= len(content)
    placed = list(read_placed(tmp_path / "rows.json"))
    assert [json.loads(content[start:end]) for _, start, end in placed] == rows
    assert {content[start : start + 1] + content[end - 1 : end] for _, start, end in placed} == {b"{}"}


@pytest.mark.parametrize("cut", range(0, 190))
def test_cut_anywhere(monkeypatch, tmp_path, cut):
    whole = json.dumps([{"id": "a", "n": -1.5e3, "t": True, "s": "\u00e9\\"}] * 4)
    monkeypatch.setattr(annotations, "_CHUNK", 5)
    (tmp_path / "cut.json").write_text(whole[:cut])
    with pytest.raises(AnnotationError, match="is empty|ends"):
        list(read_rows(tmp_path / "cut.json"))


def turns(*speakers, text="<image> hello"):
    return [{"from": speaker, "value": text} for speaker in speakers]


@pytest.mark.parametrize(
    ("form", "row", "problem"),
    [
        ("v1", [1], "is [1], not an object"),
        ("v1", {"image": "a.jpg"}, "conversations is missing, empty or no list of objects"),
        ("v1", {"conversations": []}, "conversations is missing, empty or no list of objects"),
        ("v1", {"conversations": ["hello"]}, "conversations is missing, empty or no list of objects"),
        ("v1", {"conversations": turns("human", "assistant")}, 'turn 2 is from "assistant", not human or gpt'),
        ("v1", {"conversations": turns("human", "gpt", text=None)}, "turn 1 has no text in value"),
        ("v1", {"conversations": turns("human", "human")}, "turn 2 is from human again: turns have to alternate"),
        ("v1", {"conversations": turns("gpt", "gpt", "human")}, "turn 2 is from gpt again: turns have to alternate"),
        ("v1", {"conversations": turns("gpt")}, "has one turn only, from gpt"),
        ("v1", {"image": 5, "conversations": TURNS}, "image is 5, not a path or a list of paths"),
        ("v1", {"image": "", "conversations": TURNS}, 'image is "", not a path or a list of paths'),
        ("v1", {"image": ["a", "b"], "conversations": TURNS}, "has 2 image(s) and 1 time(s) <image>"),
        ("plain", TEXT_ROW, "has no image, which the plain template needs"),
        (
            "plain",
            {"image": "a", "conversations": turns("human", "gpt", text="hi")},
            "has no <image> in its first turn",
        ),
        (
            "plain",
            {"image": "a", "conversations": turns("human", "gpt", "human")},
            "has turns from human, gpt, human; the plain template takes human, gpt",
        ),
        ("question", {"question_id": 0, "image": "a"}, "has no text"),
        ("v1", {"conversations": turns("human", "gpt", text=" ")}, "its turns are empty"),
        (
            "v1",
            {"image": "a", "conversations": turns("human", "gpt", text="hi")},
            "has 1 image(s) and 0 time(s) <image>",
        ),
        ("v1", {"image": "a", "conversations": turns("human", "gpt")}, "has 1 image(s) and 2 time(s) <image>"),
        (
            "v1",  # the first turn is not learned from
            {"image": "a", "conversations": [TURNS[0] | {"from": "gpt"}, *TEXT_ROW["conversations"]]},
            "has 1 image(s) and 0 time(s) <image>",
        ),
        (
            "v1",  # halves of it in two turns are none
            {"image": ["a"], "conversations": [{"from": "human", "value": "<im"}, {"from": "gpt", "value": "age>"}]},
            "has 1 image(s) and 0 time(s) <image>",
        ),
        ("v1", TEXT_ROW, None),
        ("v1", TEXT_ROW | {"image": None}, None),
        ("v1", {"conversations": turns("gpt", "human", "gpt")}, None),
        ("v1", {"image": ["a", "b"], "conversations": turns("human", "gpt")}, None),
        ("plain", {"image": "a", "conversations": TURNS}, None),
    ],
)
def test_rows(form, row, problem):
    assert problem_of(row, form) == problem
    if problem is None:
        spoken = [(turn["from"], turn["value"]) for turn in row["conversations"]]
        wording = (TEMPLATES | MORE_TEMPLATES)[form]
        assert form_of(wording) == form
        masked = mask(spoken, wording, Tokenizer(GOLDEN / "_common" / "tokenizer_small"), bool(images_of(row)), 2048)
        assert masked.warning == ""


def test_a_model_without_vision_takes_no_images():
    row = {"image": "a", "conversations": TURNS}
    assert problem_of(row, "v1", sees_images=False) == "has an image, but the model that is trained sees none"
    assert problem_of(TEXT_ROW, "v1", sees_images=False) is None
