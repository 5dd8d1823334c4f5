"""MMBench: the table and its pictures, the letter of an answer, the circular rule, the workbook cell by cell."""

from __future__ import annotations

import base64
import csv
import sys
from pathlib import Path

import pytest

from mobilevlm.errors import UserError
from mobilevlm.eval.task import Answer
from mobilevlm.eval.tasks.mmbench import MmBench, letter_in, options_of

TABLE = Path("benchmark_data/mmbench/mmbench_dev_en_20231003.tsv")
SUFFIX = "\nAnswer with the option's letter from the given choices directly."
HEADER = "index question hint A B C D answer category image source l2-category comment split".split()
PICTURES = {7: b"\x89PNG seven" * 20_000, 8: b"\xff\xd8 eight"}
COPY = 1_000_000


def row(index: int | str, options: list[str], answer: str, **cells: str) -> dict[str, str]:
    """A line of the table; a cell not given is empty."""
    own = dict(zip("ABCD", options, strict=False)) | {"index": str(index), "answer": answer, "split": "dev"}
    return dict.fromkeys(HEADER, "") | own | cells


def encoded(number: int) -> str:
    return base64.b64encode(PICTURES[number]).decode()


# Question 7 with four orders of options, each a step further, so that dog's letter is D, C, B, A; question 8 has two.
TURNS = [
    ["cat", "cow", "hen", "dog"],
    ["cow", "hen", "dog", "cat"],
    ["hen", "dog", "cat", "cow"],
    ["dog", "cat", "cow", "hen"],
]
ROWS = [
    row(7, TURNS[0], "D", question="Which\nanimal?", category="object", image=encoded(7), hint='Look "well".'),
    row(8, ["yes", "no"], "A", question="Is it?", category="logic", image=encoded(8), comment="c", hint="nan"),
    row(COPY + 7, TURNS[1], "C", question="Which animal?", category="object", image="7"),
    row(COPY + 8, ["no", "yes"], "B", question="Is it?", category="logic", image="8"),
    row(2 * COPY + 7, TURNS[2], "B", question="Which animal?", category="object", image="7"),
    row(3 * COPY + 7, TURNS[3], "A", question="Which animal?", category="object", image="7"),
]


def write(data: Path, rows: list[dict[str, str]]) -> Path:
    path = data / TABLE
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, HEADER, delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)
    return data


@pytest.fixture
def data(tmp_path) -> Path:
    return write(tmp_path, ROWS)


def answers(**letters: str) -> list[Answer]:
    """Right answers to all rows but those named, as `_1000007="A"`."""
    right = {int(item["index"]): item["answer"] for item in ROWS} | {int(k[1:]): v for k, v in letters.items()}
    return [Answer(index, "", letter) for index, letter in right.items()]


def metrics(data: Path, given: list[Answer]) -> dict[str, float]:
    return MmBench().metrics(MmBench().counts(data, given).total())


def test_questions(data):
    questions = MmBench().questions(data)
    assert [question.id for question in questions] == [7, 8, COPY + 7, COPY + 8, 2 * COPY + 7, 3 * COPY + 7]
    first, second, third = questions[:3]
    assert first.prompt == 'Look "well".\nWhich\nanimal?\nA. cat\nB. cow\nC. hen\nD. dog'
    assert first.text == first.prompt + SUFFIX
    assert first.extra == {"round_id": 0, "options": ["cat", "cow", "hen", "dog"], "option_char": ["A", "B", "C", "D"]}
    assert second.prompt == "Is it?\nA. yes\nB. no"  # the hint says "nan"
    assert second.extra == {"round_id": 0, "options": ["yes", "no"], "option_char": ["A", "B"]}
    assert [question.image for question in questions] == [PICTURES[n] for n in (7, 8, 7, 8, 7, 7)]
    assert (third.square, third.max_new_tokens) == (False, 1024)


def test_the_limit_of_the_csv_module_is_as_before(data):
    """The first picture's cell is above the usual limit; other readers of tables keep theirs."""
    before = csv.field_size_limit(1000)
    try:
        MmBench().questions(data)
        assert csv.field_size_limit() == 1000 < len(ROWS[0]["image"])
    finally:
        csv.field_size_limit(before)


@pytest.mark.parametrize("nothing", ["", "nan", "NaN", "None", "NONE", "N/A", "null"])
def test_options_stop_at_the_first_without_a_text(tmp_path, nothing):
    """Where pandas sees a missing cell or the original's own test says so; what comes behind is not asked."""
    write(tmp_path, [row(7, ["cat", "cow", nothing, "dog"], "A", question="Which?", category="c", image=encoded(8))])
    (question,) = MmBench().questions(tmp_path)
    assert question.prompt == "Which?\nA. cat\nB. cow"


def test_options_may_begin_like_nothing():
    assert options_of({"A": "None of them", "B": "nano", "C": "0", "D": None}) == ["None of them", "nano", "0"]


OPTIONS = ["a cat", "a cow", "Hens"]
LETTERS = {
    "B": "B",
    "B is it": "B",
    "D": None,  # there are three options
    "b": None,
    "B or C": None,
    "A it is": "A",  # up to three words, a lone A counts as the letter
    "A cow": "A",
    "A cow is there": "B",  # in four it may be the article, and the text decides
    "A. A cow is there": "A",  # but here it stands with a point
    "B C.": "B",  # forms one after the other: alone before with a point
    "B. C.": None,
    "B. C,": "B",  # only one has a point; the comma comes later
    "C, then": "C",
    "C: hens": "C",
    "(C)": "C",
    "C).": "C",
    "it is :C.": "C",
    ":B": "B",
    "[C]": None,
    "A CAT": "A",
    "the answer is HENS!": "C",
    "a cat, hens": None,
    "": None,
    "dogs": None,
}


@pytest.mark.parametrize("text", LETTERS)
def test_letter(text):
    assert letter_in(text, OPTIONS) == LETTERS[text]


def test_all_right(data):
    counts = MmBench().counts(data, answers())
    assert counts.ids == ["7", "8"]
    assert counts.names == ("right", "asked", "right of logic", "asked of logic", "right of object", "asked of object")
    assert counts.rows.tolist() == [[1, 1, 0, 0, 1, 1], [1, 1, 1, 1, 0, 0]]
    assert metrics(data, answers()) == {"accuracy": 100, "logic": 100, "object": 100}
    assert MmBench().graded(counts.total()) == 2  # of six rows


@pytest.mark.parametrize("wrong", [7, COPY + 7, 2 * COPY + 7, 3 * COPY + 7])
def test_one_order_wrong_and_the_question_is(data, wrong):
    """A model that says C to all orders of question 7 has one of four right, and no point."""
    given = answers(**{f"_{wrong}": "no idea"})
    assert metrics(data, given) == {"accuracy": 50, "logic": 100, "object": 0}
    assert metrics(data, given[::-1]) == {"accuracy": 50, "logic": 100, "object": 0}
    always = answers(_7="C", _1000007="C", _2000007="C", _3000007="C")
    assert metrics(data, always) == {"accuracy": 50, "logic": 100, "object": 0}


def test_failed_answer_is_wrong(data):
    given = answers()
    given[3] = Answer(COPY + 8, "", "B", failed=True)
    assert metrics(data, given) == {"accuracy": 50, "logic": 0, "object": 100}


def test_part_of_the_questions(data):
    """The copies that were answered decide; a category nobody was asked in has no score."""
    assert metrics(data, answers()[:1]) == {"accuracy": 100, "object": 100}
    assert metrics(data, answers(_2000007="A")[2:]) == {"accuracy": 50, "logic": 100, "object": 0}
    assert MmBench().counts(data, []).rows.shape == (0, 6)
    assert metrics(data, []) == {"accuracy": 0}


def test_a_question_without_category(tmp_path):
    write(tmp_path, [row(8, ["yes", "no"], "A", question="Is it?", image=encoded(8)), ROWS[0]])
    given = [Answer(8, "", "A"), Answer(7, "", "A")]
    assert metrics(tmp_path, given) == {"accuracy": 50, "no category": 100, "object": 0}


def test_a_table_of_copies_alone(tmp_path):
    write(tmp_path, [ROWS[3] | {"image": encoded(8)}])
    assert metrics(tmp_path, [Answer(COPY + 8, "", "B")]) == {"accuracy": 100, "logic": 100}


def test_workbook_cell_by_cell(data, tmp_path):
    """What pandas' to_excel writes after the original's conversion; predictions go by index, not by order."""
    openpyxl = pytest.importorskip("openpyxl")
    given = [
        Answer(COPY + 8, "", "=B"),
        Answer(7, "", "D. d\x07og"),
        Answer(8, "", ""),
        Answer(COPY + 7, "", "\u00e9 007"),
    ]
    (path,) = MmBench().submission(data, given, tmp_path)
    assert path == tmp_path / "predictions.xlsx"
    book = openpyxl.load_workbook(path)
    assert book.sheetnames == ["Sheet1"]
    assert [list(line) for line in book.active.iter_rows(values_only=True)] == [
        ["index", "question", "A", "B", "C", "D", "prediction", "answer", "split"],
        [7, "Which\nanimal?", "cat", "cow", "hen", "dog", "D. dog", "D", "dev"],
        [8, "Is it?", "yes", "no", None, None, None, "A", "dev"],
        [COPY + 7, "Which animal?", "cow", "hen", "dog", "cat", "é 007", "C", "dev"],
        [COPY + 8, "Is it?", "no", "yes", None, None, "=B", "B", "dev"],
        [2 * COPY + 7, "Which animal?", "hen", "dog", "cat", "cow", None, "B", "dev"],
        [3 * COPY + 7, "Which animal?", "dog", "cat", "cow", "hen", None, "A", "dev"],
    ]
    assert book.active["G5"].data_type == "s"  # not a formula


def test_without_openpyxl(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(UserError, match=r"needs openpyxl: pip install 'mobilevlm\[eval\]'"):
        MmBench().submission(data, answers(), tmp_path)


@pytest.mark.parametrize("index", [9, "7", 4 * COPY + 7])
def test_answers_of_something_else(data, index, tmp_path):
    with pytest.raises(UserError, match=f"MMBench has no question {index}"):
        MmBench().counts(data, [Answer(index, "", "A")])
    with pytest.raises(UserError, match=f"MMBench has no question {index}"):
        MmBench().submission(data, [Answer(index, "", "A")], tmp_path)


def test_two_answers_to_one_question(data):
    with pytest.raises(UserError, match="question 8 of MMBench has two answers"):
        MmBench().counts(data, [Answer(8, "", "A"), Answer(7, "", "A"), Answer(8, "", "B")])


BAD_ROWS = {
    "index is a word": ([row("x", ["a"], "A", question="q")], "line 2: index 'x' is none"),
    "no index": ([ROWS[1], row("", ["a"], "A", question="q")], "line 3: index '' is none"),
    "the same index": ([ROWS[1], ROWS[1]], "line 3: index '8' is none or a second one"),
    "no question": ([row(3, ["a"], "A")], "line 2: index '3' .* has no question"),
    "no picture": ([row(3, ["a"], "A", question="q")], "index 3: its image is no base64"),
    "damaged picture": ([row(3, ["a"], "A", question="q", image="abcde")], "index 3: its image is no base64"),
    "no such picture": ([row(3, ["a"], "A", question="q", image="12")], "its image is that of row 12, which is not"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_bad_rows(tmp_path, name):
    rows, message = BAD_ROWS[name]
    with pytest.raises(UserError, match=message) as caught:
        MmBench().questions(write(tmp_path, rows))
    assert str(tmp_path / TABLE) in str(caught.value)
    assert "Download it again: benchmark_data.zip" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no column index, question, hint, A, B, C, D, answer, category, image"),
        (b"\t".join(name.encode() for name in HEADER if name != "hint"), "has no column hint"),
        ("\t".join(HEADER).encode() + b"\n7\tWhich?\n", "line 2 has 2 cells, the first line 14"),
        ("\t".join(HEADER).encode() + b"\n7\t\xff\n", "cannot be read"),
    ],
)
def test_damaged_tables(tmp_path, content, message):
    (tmp_path / TABLE).parent.mkdir(parents=True)
    (tmp_path / TABLE).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        MmBench().questions(tmp_path)
    assert str(tmp_path / TABLE) in str(caught.value)


def test_missing_table(tmp_path):
    with pytest.raises(UserError, match=f"{TABLE} is missing: download benchmark_data.zip of MobileVLM's release"):
        MmBench().questions(tmp_path)


@pytest.mark.parametrize("answer", ["C", "", "AB"])
def test_a_right_answer_that_is_no_option(tmp_path, answer):
    write(tmp_path, [row(8, ["yes", "no"], answer, question="Is it?", image=encoded(8))])
    with pytest.raises(UserError, match="question 8 of MMBench has 2 options, and .* is to be right"):
        MmBench().counts(tmp_path, [Answer(8, "", "A")])
