"""TextVQA's soft accuracy, compared with the official program's own results and with its rules written down again."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mobilevlm.eval.tasks.contractions import CONTRACTIONS
from mobilevlm.eval.tasks.m4c import normalise, soft_accuracy
from tests.conftest import GOLDEN

ROWS = json.loads((GOLDEN / "_common" / "m4c_scores.json").read_text())["rows"]
PIECES = [
    *";/[]\"{}()=+\\_-><@`,?!.'$ \n\t",
    "a",
    "The",
    "an",
    "two",
    "ten",
    "None",
    "7",
    "38",
    "dont",
    "Im",
    "it's",
    "ß",
]
SETTLED = settings(derandomize=True, database=None, deadline=None)
TEXTS = st.lists(st.sampled_from(PIECES)).map("".join)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["pred"])
def test_golden(row):
    assert normalise(row["pred"]) == row["pred_processed"]
    assert [normalise(text) for text in row["gts"]] == row["gts_processed"]
    assert soft_accuracy(row["pred"], row["gts"]) == row["textvqa_score"]


CASES = {
    "number words": ("None zero ten eleven", "0 0 10 eleven"),
    "articles": ("A the an apple", "apple"),
    "article within": ("theatre ant", "theatre ant"),
    # Every mark is judged for itself: '-' touches no blank and becomes one, '/' does in "c/ d" and vanishes everywhere.
    "marks": ("a-b c/ d/e", "b c de"),  # of "a b c de" the article goes
    "mark behind a blank": ("x -b-c", "x bc"),
    "mark at the end": ("stop!", "stop"),
    # Blanks around the answer touch no mark, tabs and line feeds within it do.
    "blank outside": (" -x-y", "x y"),
    "tab": ("x-\ty-z", "x yz"),
    "line feed": ("x\n-y-z", "x yz"),
    "comma and question mark": ("1,000,000 what?no", "1000000 whatno"),
    "point before a digit": (".5 3.5 v.2", ".5 3.5 v.2"),
    # The point in "3." is spared by the rule as it was meant, not by the one that runs.
    "point behind a digit": ("3. 4.x", "3 4x"),
    "possessive": ("Levi's", "levi 's"),
    "possessive is cut anywhere": ("o'sullivan", "o 'sullivan"),
    "contraction": ("couldnt've", "couldn't've"),
    "contraction the wrong way round": ("somebody'd", "somebodyd"),
    "capital contraction": ("Im Ive", "im ive"),
    "number word after a mark went": ('"two"', "2"),
    # `one` becomes 1, which is no article; "a" goes only after the marks are gone.
    "article in quotes": ('"a" dog', "dog"),
    "lines": ("two\nlines\tmore", "2 lines more"),
    "empty": ("", ""),
    "nothing left": ("the.", ""),
}


@pytest.mark.parametrize("name", CASES)
def test_by_hand(name):
    text, expected = CASES[name]
    assert normalise(text) == expected


def test_only_32_points_vanish():
    """The official program gives re.UNICODE, 32, where `sub` takes how often."""
    assert normalise("x" + "." * 40) == "x" + "." * 8


def test_the_table_of_contractions():
    """The size of the public table and its odd entries; else, apostrophes are put in and nothing more."""
    assert len(CONTRACTIONS) == 120
    assert {wrong for wrong in CONTRACTIONS if wrong != wrong.lower()} == {"Im", "Ive", "Id've", "I'dve"}
    assert {wrong for wrong, right in CONTRACTIONS.items() if wrong == right} == {"let's", "she's"}
    assert all(wrong.replace("'", "") == right.replace("'", "") for wrong, right in CONTRACTIONS.items())
    fewer = {wrong for wrong, right in CONTRACTIONS.items() if wrong.count("'") > right.count("'")}
    assert fewer == {"somebody'd"}


def official(text: str) -> str:
    """The rules in the order and with the patterns of the published description, the one that never applies too."""
    text = text.lower()
    for old, new in ((",", ""), ("?", ""), ("'s", " 's")):
        text = text.replace(old, new)
    text = text.strip().replace("\n", " ").replace("\t", " ").strip()
    result = text
    for mark in [*';/[]"{}()=+\\_-><@`,?!']:
        glue = mark + " " in text or " " + mark in text or re.search(r"(?<=\d)(\,)+(?=\d)", text) is not None
        result = result.replace(mark, "" if glue else " ")
    result = re.compile(r"(?!<=\d)(\.)(?!\d)").sub("", result, count=int(re.UNICODE))
    numbers = "none zero one two three four five six seven eight nine ten".split()
    words = []
    for word in result.lower().split():
        word = str(max(numbers.index(word) - 1, 0)) if word in numbers else word
        if word not in ["a", "an", "the"]:
            words.append(CONTRACTIONS.get(word, word))
    return " ".join(words)


@SETTLED
@given(TEXTS)
@example("1,000 a-b")
@example("<=3.x")
def test_as_the_rules_say(text):
    assert normalise(text) == official(text)


@SETTLED
@given(st.lists(st.sampled_from(["nike", "Nike.", "adidas", "two", "2"]), min_size=10, max_size=10))
def test_soft_accuracy_leaves_each_person_out(references):
    plain = [official(text) for text in references]
    for said in ("nike", "2", "reebok"):
        others = [plain[:left_out] + plain[left_out + 1 :] for left_out in range(10)]
        expected = sum(min(1, rest.count(said) / 3) for rest in others) / 10 if said in plain else 0
        assert soft_accuracy(said, references) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("number", [0, 9, 11])
def test_ten_references_are_needed(number):
    with pytest.raises(ValueError, match=f"^{number} reference answers, 10 are needed"):
        soft_accuracy("x", ["x"] * number)
