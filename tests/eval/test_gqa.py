"""GQA: scores worked out by hand, and the official script's reading of what is handed in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilevlm.errors import UserError
from mobilevlm.eval.task import SHORT_ANSWER, Answer
from mobilevlm.eval.tasks.gqa import Gqa, prediction

TASK = Gqa()
TRUTHS = {
    "201": {"answer": "yes", "isBalanced": True, "imageId": "n1"},
    "202": {"answer": "white", "isBalanced": True, "imageId": "n1"},
    "203": {"answer": "no", "isBalanced": False, "imageId": "n2"},
    "204": {"answer": "tv stand", "isBalanced": True, "imageId": "n2"},
}


def write(data: Path, truths: object = TRUTHS) -> Path:
    """A data directory with these official files; its own below `data`."""
    folder = data / "benchmark_data/gqa"
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {"question_id": name, "image": "n1.jpg", "text": f"Question {name}?{SHORT_ANSWER}", "category": "default"}
        for name in TRUTHS
    ]
    (folder / "llava_gqa_testdev_balanced.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "testdev_balanced_questions.json").write_text(json.dumps(truths))
    return folder


def answers(**texts: str) -> list[Answer]:
    return [Answer(name[1:], f"Question {name[1:]}?{SHORT_ANSWER}", text) for name, text in texts.items()]


def accuracy(data: Path, given: list[Answer]) -> float:
    return TASK.metrics(TASK.counts(data, given).total())["accuracy"]


def official(predictions: Path, truths: dict) -> float:
    """What eval.py of GQA does with a whole run."""
    said = {row["questionId"]: row["prediction"] for row in json.loads(predictions.read_text())}
    scores = [said[name] == entry["answer"] for name, entry in truths.items() if entry["isBalanced"]]
    return 100 * sum(scores) / len(scores)


def test_questions_come_from_the_official_file(tmp_path):
    folder = write(tmp_path)
    questions = TASK.questions(tmp_path)
    assert [question.id for question in questions] == ["201", "202", "203", "204"]
    assert questions[0].text == questions[0].prompt == f"Question 201?{SHORT_ANSWER}"
    assert questions[0].image == folder / "images/n1.jpg"


def test_a_score_by_hand(tmp_path):
    write(tmp_path)
    # Right: Yes. (dot and case), TV stand. Wrong: white cat. Not balanced, so not in the sum: 203, whatever it says.
    given = answers(q201="Yes.", q202="white cat", q203="yes", q204="TV stand")
    counts = TASK.counts(tmp_path, given)
    assert counts.ids == ["201", "202", "204"]
    assert counts.total() == {"right": 2, "questions": 3}
    assert TASK.metrics(counts.total()) == {"accuracy": pytest.approx(200 / 3)}
    assert counts.rows[:, 0].tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Yes", "yes"),
        ("Yes...", "yes"),
        (".yes.", ".yes"),  # only dots at the end
        ("Yes. ", "yes. "),  # a blank after it keeps the dot, and is kept itself
        ("yes!", "yes!"),
        ("TV.Stand", "tv.stand"),
        ("", ""),
        ("...", ""),
    ],
)
def test_the_conversion_of_an_answer(text, expected):
    assert prediction(text) == expected


def test_a_failed_answer_is_wrong_though_its_text_is_right(tmp_path):
    write(tmp_path)
    given = [Answer("201", "", "yes", failed=True), Answer("202", "", "white")]
    assert accuracy(tmp_path, given) == 50  # 1 of 2; 100 if `failed` were ignored or left out


def test_a_partial_run_is_graded_over_what_was_asked(tmp_path):
    write(tmp_path)
    assert accuracy(tmp_path, answers(q202="white")) == 100
    assert accuracy(tmp_path, []) == 0
    assert accuracy(tmp_path, answers(q203="no")) == 0  # nothing that counts was asked


def test_ids_that_json_made_numbers_are_the_same_ids(tmp_path):
    write(tmp_path)
    assert accuracy(tmp_path, [Answer(202, "", "white")]) == 100


def test_answers_that_do_not_fit_the_files_are_refused(tmp_path):
    folder = write(tmp_path)
    with pytest.raises(UserError) as error:
        TASK.counts(tmp_path, answers(q201="yes", q999="yes"))
    assert str(error.value) == f"the answers have question 999, {folder}/testdev_balanced_questions.json does not"
    with pytest.raises(UserError, match="question 201 of GQA has two answers"):
        TASK.counts(tmp_path, answers(q201="yes") * 2)


@pytest.mark.parametrize(
    ("truths", "problem"),
    [
        ([], " is no JSON object"),
        ({"201": {"isBalanced": True}}, ", question 201 lacks answer or isBalanced"),
        ({"201": {"answer": "yes"}}, ", question 201 lacks answer or isBalanced"),
        ({"201": "yes"}, ", question 201 lacks answer or isBalanced"),
    ],
)
def test_damaged_truths_are_named(tmp_path, truths, problem):
    folder = write(tmp_path, truths)
    with pytest.raises(UserError) as error:
        TASK.counts(tmp_path, answers(q201="yes"))
    assert str(error.value).startswith(f"{folder}/testdev_balanced_questions.json{problem}")


def test_missing_truths_are_named_with_who_offers_them(tmp_path):
    (write(tmp_path) / "testdev_balanced_questions.json").unlink()
    with pytest.raises(UserError, match="testdev_balanced_questions.json is missing: download benchmark_data.zip"):
        TASK.counts(tmp_path, [])


def test_the_file_for_the_official_script(tmp_path):
    write(tmp_path)
    given = [*answers(q201="Yes.", q202="Blue"), Answer("203", "", "no", failed=True)]
    (path,) = TASK.submission(tmp_path, given, tmp_path)
    assert path == tmp_path / "testdev_balanced_predictions.json"
    assert json.loads(path.read_text()) == [
        {"questionId": "201", "prediction": "yes"},
        {"questionId": "202", "prediction": "blue"},
        {"questionId": "203", "prediction": ""},
    ]


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    entries=st.lists(st.tuples(st.sampled_from(["yes", "no", "red"]), st.booleans()), min_size=1, max_size=8),
    texts=st.lists(st.tuples(st.sampled_from(["yes", "No.", "RED..", "red ", ""]), st.booleans()), min_size=8),
)
def test_the_official_script_gives_the_same_score(tmp_path_factory, entries, texts):
    data = tmp_path_factory.getbasetemp() / "gqa"
    truths = {str(n): {"answer": answer, "isBalanced": balanced} for n, (answer, balanced) in enumerate(entries)}
    truths["last"] = {"answer": "yes", "isBalanced": True}  # so that the official script has something to divide by
    write(data, truths)
    given = [Answer(name, "", *texts[n % len(texts)]) for n, name in enumerate(truths)]
    (path,) = TASK.submission(data, given, data)
    assert accuracy(data, given) == pytest.approx(official(path, truths))
