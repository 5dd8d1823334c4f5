"""Questions of one's own: the file, the grading, and what is said of bundles that were asked."""

from __future__ import annotations

import json

import pytest

from mobilevlm.errors import UserError
from mobilevlm.eval.question_file import accuracy, digest, grade, normalised, read_question_file
from mobilevlm.eval.questions import differences
from mobilevlm.eval.task import Answer
from tests.conftest import ROOT, run
from tests.export.test_deploy import BAD

QUESTIONS = ROOT / "eval" / "questions.py"
PICTURE = ROOT / "assets" / "shapes.png"


def written(path, *rows):
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


@pytest.mark.parametrize("name", BAD)
def test_a_bad_line_is_named(name, tmp_path):
    text, message = BAD[name]
    (tmp_path / "bad.jsonl").write_text(text)
    with pytest.raises(UserError, match="--questions .*bad.jsonl") as refusal:
        read_question_file(tmp_path / "bad.jsonl")
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    "row, message",
    [
        ({"question": " ", "answer": "a"}, "question is ' '"),
        ({"question": "q", "answer": []}, r"answer is \[\]"),
        ({"question": "q", "answer": ["a", 3]}, "answer is"),
        ({"question": "q", "answer": "."}, "answer is '.'"),
        ({"question": "q", "answer": "a", "image": 3}, "image is 3"),
        ({"question": "q", "answer": "a", "anwser": "b"}, "anwser is no field"),
    ],
)
def test_a_bad_field_is_named(row, message, tmp_path):
    with pytest.raises(UserError, match=message):
        read_question_file(written(tmp_path / "bad.jsonl", row))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_question_file(tmp_path / "none.jsonl")


def test_answers_are_graded_but_for_case_spaces_and_dots(tmp_path):
    file = written(
        tmp_path / "q.jsonl",
        {"question": "a", "answer": "Yes"},
        {"question": "b", "answer": ["two", "2"]},
        {"question": "c", "answer": "light  blue"},
        {"question": "d", "answer": "no"},
    )
    asked = read_question_file(file)
    assert normalised("  Light\nBlue. ") == "light blue"
    texts = ["yes.", "2", "Light blue", "no"]
    answers = [Answer(number, "", text, failed=number == 4) for number, text in enumerate(texts, 1)]
    counts = grade(asked, answers)
    assert counts.rows[:, 0].tolist() == [1, 1, 1, 0]  # the last could not be asked
    assert accuracy(counts.total()) == 75
    assert [one.question.id for one in read_question_file(file, limit=2)] == [1, 2]
    wrong = [Answer(number, "", "something") for number in range(1, 5)]
    first, second = differences(asked, {"a": answers, "b": wrong})
    assert (first.score, first.difference, first.low, first.high, first.agreement) == (75, 0, 0, 0, 1)
    assert (second.score, second.difference, second.agreement) == (0, -75, 0)
    assert -100 <= second.low < -75 < second.high <= 0


def test_other_pictures_are_other_questions(tmp_path):
    image = tmp_path / "a.png"
    image.write_bytes(PICTURE.read_bytes())
    file = written(tmp_path / "q.jsonl", {"image": "a.png", "question": "Is it red?", "answer": "yes"})
    before = digest(read_question_file(file))
    assert digest(read_question_file(file)) == before
    image.write_bytes(PICTURE.read_bytes() + b"\0")
    assert digest(read_question_file(file)) != before


def test_a_bundle_is_asked_once(demo_fp32, tmp_path):
    """An image that cannot be read counts as wrong and is told; the second run asks nothing."""
    (tmp_path / "broken.png").write_bytes(b"no image")
    file = written(
        tmp_path / "q.jsonl",
        {"image": str(PICTURE), "question": "What color is the circle?", "answer": "The circle is red"},
        {"image": "broken.png", "question": "What color is the circle?", "answer": "The circle is red"},
    )
    words = (QUESTIONS, "--questions", file, "--engine", demo_fp32, "--out", tmp_path / "out")
    done = run(*words)
    assert done.returncode == 0, done.stderr
    assert "line 2 counts as wrong" in done.stderr
    (found,) = json.loads(done.stdout.splitlines()[-1])
    assert (found["score"], found["n"], found["run"]) == (50, 2, str(demo_fp32))
    (answers,) = (tmp_path / "out").iterdir()
    before = answers.stat().st_mtime_ns
    assert run(*words).stdout == done.stdout and answers.stat().st_mtime_ns == before


def test_a_file_alone_is_checked(tmp_path):
    file = written(tmp_path / "q.jsonl", {"question": "Is it?", "answer": "yes"})
    done = run(QUESTIONS, "--questions", file)
    assert (done.returncode, done.stdout) == (0, "1 questions, as they should be\n")
    twice = run(QUESTIONS, "--questions", file, "--engine", "a", "--engine", "a")
    assert twice.returncode == 2 and "names a bundle twice" in twice.stderr
