"""ScienceQA: what is asked, which letter an answer chooses, and the files of the official script."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilevlm.errors import UserError
from mobilevlm.eval.task import Answer
from mobilevlm.eval.tasks.sqa import Sqa, letter_in

FOLDER = Path("benchmark_data/sqa")
SUFFIX = "\nAnswer with the option's letter from the given choices directly."
PROBLEMS = {
    "4": {"choices": ["Maine", "Ohio"], "answer": 1},
    "5": {"choices": ["solid", "liquid", "gas"], "answer": 0},
    "11": {"choices": ["yes", "no"], "answer": 0},
    "99": {"choices": ["of", "training"], "answer": 0},
}


@pytest.fixture
def data(tmp_path) -> Path:
    folder = tmp_path / FOLDER
    folder.mkdir(parents=True)
    turns = [{"from": "human", "value": "Context: N/A\n<image>"}, {"from": "gpt", "value": "A."}]
    rows = [
        {"id": "4", "image": "4/image.png", "conversations": turns},
        {"id": "5", "conversations": [{"from": "human", "value": "Question: which? \n"}]},
    ]
    (folder / "llava_test_CQM-A.json").write_text(json.dumps(rows))
    (folder / "pid_splits.json").write_text(json.dumps({"test": ["5", "4", "11"], "train": ["99"]}))
    (folder / "problems.json").write_text(json.dumps(PROBLEMS))
    return tmp_path


def with_image(name: str, text: str, **options) -> Answer:
    return Answer(name, "<image>\nContext: N/A" + SUFFIX, text, **options)


def without(name: str, text: str, **options) -> Answer:
    return Answer(name, "Question: which?" + SUFFIX, text, **options)


def metrics(data: Path, answers: list[Answer]) -> dict[str, float]:
    return Sqa().metrics(Sqa().counts(data, answers).total())


def test_questions(data):
    picture, text = Sqa().questions(data)
    assert picture.text == "Context: N/A" + SUFFIX
    assert picture.prompt == "<image>\nContext: N/A" + SUFFIX
    assert picture.image == data / FOLDER / "images/test/4/image.png"
    assert text.text == text.prompt == "Question: which?" + SUFFIX
    assert (picture.id, text.id, text.image) == ("4", "5", None)
    assert all(question.square and question.max_new_tokens == 1024 for question in (picture, text))


def test_score(data):
    """Of two with a picture one is right, of three in all two; in the order of the split."""
    answers = [with_image("4", "B"), without("5", "A. solid"), with_image("11", "B")]
    counts = Sqa().counts(data, answers)
    assert counts.ids == ["5", "4", "11"]
    #                             right, asked, right and asked with a picture
    assert counts.rows.tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [0, 1, 0, 1]]
    assert metrics(data, answers) == pytest.approx({"image_accuracy": 50, "accuracy": 200 / 3})
    assert Sqa().graded(counts.total()) == 2


def test_part_of_the_questions(data):
    """Officially the two that were not asked would be wrong."""
    assert metrics(data, [without("5", "A")]) == {"image_accuracy": 0, "accuracy": 100}
    assert metrics(data, [with_image("4", "B")]) == {"image_accuracy": 100, "accuracy": 100}
    assert metrics(data, []) == {"image_accuracy": 0, "accuracy": 0}


def test_failed_answer_is_wrong(data):
    assert metrics(data, [with_image("4", "B", failed=True)]) == {"image_accuracy": 0, "accuracy": 0}


def test_a_letter_beyond_the_choices_is_wrong(data):
    answers = [without("5", "D"), without("4", "C")]
    assert metrics(data, answers)["accuracy"] == 0
    path, result = Sqa().submission(data, answers, data)
    assert json.loads(result.read_text())["results"] == {"5": -1, "4": -1}
    assert [item["parsed_ans"] for item in json.loads(path.read_text())["incorrect"]] == ["D", "C"]


LETTERS = {
    "A": "A",
    "E": "E",
    "F": None,
    "": None,
    "AB": None,  # in "ABCDE", but no letter of it
    "B.": None,
    "B. two": "B",
    "B. ": "B",
    "B two": None,
    "b": None,
    " B": None,
    "F. two": None,
    "The answer is C.": "C",
    "So. The answer is C. BECAUSE: The answers": "C",
    "The answer is C": None,  # the pattern wants a character behind the letter,
    "The answer is Canada": "C",  # and takes any
    "The answer is C\n": None,  # but a line feed
    "The answer is Z.": "Z",  # which then is none of the choices
    "The answer is A. The answer is A.": None,
    "the answer is A.": None,
    "D. The answer is A.": "D",
}


@pytest.mark.parametrize("text", LETTERS)
def test_letter(text):
    assert letter_in(text) == LETTERS[text]


@settings(derandomize=True, database=None, deadline=None)
@given(st.lists(st.sampled_from([*"ABEFZ. \n", "The answer is ", "B. "]), max_size=6).map("".join))
def test_letter_as_the_rule_says(text):
    """The three forms once more, without a pattern: go through the text, and on behind what was found."""
    words, place, said = "The answer is ", 0, []
    while place < len(text):
        letter, behind = text[place + len(words) :][:1], text[place + len(words) + 1 :][:1]
        if text[place:].startswith(words) and "A" <= letter <= "Z" and behind not in ("", "\n"):
            said.append(letter)
            place += len(words) + 1
        place += 1
    expected = said[0] if len(said) == 1 else None
    if text.startswith(("A. ", "B. ", "C. ", "D. ", "E. ")) or text in ("A", "B", "C", "D", "E"):
        expected = text[0]
    assert letter_in(text) == expected


def test_submission(data, tmp_path):
    answers = [with_image("4", "B"), without("5", "liquid"), with_image("11", "B. no")]
    output, result = Sqa().submission(data, answers, tmp_path)
    assert json.loads(result.read_text()) == {
        "acc": pytest.approx(100 / 3),
        "correct": 1,
        "count": 3,
        "results": {"5": -1, "4": 1, "11": 1},
        "outputs": {"5": "liquid", "4": "B", "11": "B. no"},
    }
    content = json.loads(output.read_text())
    assert content["correct"] == [
        {
            "question_id": "4",
            "parsed_ans": "B",
            "ground_truth": "B",
            "question": "<image>\nContext: N/A" + SUFFIX,
            "pred": "B",
            "is_multimodal": True,
        }
    ]
    fields = ("question_id", "parsed_ans", "ground_truth", "is_multimodal")
    wrong = [tuple(item[field] for field in fields) for item in content["incorrect"]]
    assert wrong == [("5", "FAILED", "A", False), ("11", "B", "A", True)]


@pytest.mark.parametrize("answers", [["99"], ["4", "nonsense"]])
def test_answers_of_something_else(data, answers):
    """Question 99 is there, but not in the test split."""
    with pytest.raises(UserError, match=f"ScienceQA's test split has no question {answers[-1]}"):
        Sqa().counts(data, [without(name, "A") for name in answers])


def test_two_answers_to_one_question(data):
    with pytest.raises(UserError, match="question 5 of ScienceQA has two answers"):
        Sqa().counts(data, [without("4", "A"), without("5", "A"), without("5", "B")])


BAD_QUESTIONS = {
    "an object": ({}, "holds no list"),
    "a text": (["x"], "row 0 is no question"),
    "no turns": ([{"id": "1", "conversations": []}], "row 0 is no question"),
    "no text": ([{"id": "1", "conversations": [{"value": None}]}], "row 0 is no question"),
    "no id": ([{"conversations": [{"value": "x"}]}], "row 0 is no question"),
    "picture": ([{"id": "1", "image": None, "conversations": [{"value": "x"}]}], "row 0 is no question"),
}


@pytest.mark.parametrize("name", BAD_QUESTIONS)
def test_bad_questions(data, name):
    content, message = BAD_QUESTIONS[name]
    (data / FOLDER / "llava_test_CQM-A.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"llava_test_CQM-A.json.* {message}.*Download it again: benchmark_data.zip"):
        Sqa().questions(data)


BAD_TRUTHS = {
    "no split": ("pid_splits.json", {"train": []}, "has no list `test`"),
    "not there": ("problems.json", {"4": PROBLEMS["4"]}, "question 5: answer None of choices None"),
    "no list": (
        "problems.json",
        PROBLEMS | {"5": {"choices": "ab", "answer": 0}},
        "question 5: answer 0 of choices 'ab'",
    ),
    "beyond": ("problems.json", PROBLEMS | {"4": {"choices": ["a"], "answer": 1}}, "question 4: answer 1 of choices"),
    "a text": ("problems.json", PROBLEMS | {"4": {"choices": ["a"], "answer": "A"}}, "question 4: answer 'A' of"),
}


@pytest.mark.parametrize("name", BAD_TRUTHS)
def test_bad_truths(data, name):
    file, content, message = BAD_TRUTHS[name]
    (data / FOLDER / file).write_text(json.dumps(content))
    with pytest.raises(UserError, match=message) as caught:
        Sqa().counts(data, [])
    assert file in str(caught.value) and "Download it again: benchmark_data.zip" in str(caught.value)


@pytest.mark.parametrize("file", ["llava_test_CQM-A.json", "pid_splits.json", "problems.json"])
def test_missing_files(data, file):
    (data / FOLDER / file).unlink()
    with pytest.raises(UserError, match=f"{file} is missing: download benchmark_data.zip"):
        Sqa().questions(data) and Sqa().counts(data, [])
