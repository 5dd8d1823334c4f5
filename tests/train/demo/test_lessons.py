"""Rows about one thing alone: right by an independent reader of the scene, balanced, and no answer told before."""

import re
from dataclasses import replace

import pytest

from mobilevlm.train.demo import lessons
from mobilevlm.train.demo.wordings.phrases import SHORT_ANSWER
from tests.train.demo.reader import compared, holds
from tests.train.demo.test_scenes import scenes

GREETING = re.compile(r"^(hello, |please: |hi! |question: |look at the picture\. |quick question: )", re.IGNORECASE)
SIDES = re.compile(r"\b(left|right)\b")


def turns(row: dict) -> list[tuple[str, str]]:
    values = [GREETING.sub("", turn["value"].removeprefix("<image>\n")) for turn in row["conversations"]]
    return list(zip(values[::2], values[1::2], strict=True))


@pytest.mark.parametrize("lesson", [lessons.sides_row, lessons.writing_row])
def test_answers_are_right_and_balanced(lesson):
    """Those of one word, as most are. One of two answers by chance would be seen in a few hundred."""
    said = []
    for scene, rng in scenes(900):
        row = lesson(scene, "a.jpg", rng)
        if lesson == lessons.sides_row:
            scene = replace(scene, texts=[])  # not what is asked about, and the reader takes it to be
        for question, answer in turns(row) if row else []:
            if SHORT_ANSWER in question and "OCR" not in question:
                assert holds(scene, question.removesuffix(f"\n{SHORT_ANSWER}"), answer.lower()), (question, answer)
                said.append(answer)
    assert len(said) > 100
    for one, other in (("Yes", "No"), ("left", "right")):
        if one in said:
            assert 0.35 < said.count(one) / (said.count(one) + said.count(other)) < 0.65


def test_each_pair_is_asked_about_once_and_only_its_sides():
    """Or the later one is answered from words."""
    found = 0
    for scene, rng in scenes(400):
        if row := lessons.sides_row(scene, "a.jpg", rng):
            asked = [compared(scene, question) for question, _ in turns(row)]
            assert None not in asked and len(asked) == len(set(asked)) <= lessons.MOST_PAIRS
            told = [answer for _, answer in turns(row) if " " in answer]
            assert all(SIDES.search(answer) for answer in told)
            found += len(asked)
    assert found > 100


def test_a_text_is_told_by_its_last_turn_only():
    found = 0
    for scene, rng in scenes(900):
        row = lessons.writing_row(scene, "a.jpg", rng)
        assert (row is None) == (not scene.texts)
        if row:
            *before, _ = turns(row)
            assert all(answer == "No" for _, answer in before)
            found += len(before)
    assert found > 50
