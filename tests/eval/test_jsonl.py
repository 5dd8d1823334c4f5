"""Official files: what is read, and what is said about a file that is missing or damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobilevlm.datasets import DATA_SETS
from mobilevlm.errors import UserError
from mobilevlm.eval.jsonl import read_json, read_jsonl, read_questions, read_rows

SOURCE = "the annotations (example.org)"
GQA = next(item for item in DATA_SETS if item.name == "benchmark/gqa")


def file(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_objects_are_read_in_order_and_blank_lines_skipped(tmp_path):
    path = file(tmp_path / "a.jsonl", '\n{"a": 1}\r\n   \n{"b": "\\u00e9\u2028é"}')
    # U+2028 breaks lines for str.splitlines, but not in JSON lines.
    assert list(read_jsonl(path, SOURCE)) == [{"a": 1}, {"b": "é\u2028é"}]


def test_a_byte_order_mark_is_no_content(tmp_path):
    assert list(read_jsonl(file(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"a": 1}\n'), SOURCE)) == [{"a": 1}]
    assert read_json(file(tmp_path / "a.json", b"\xef\xbb\xbf[1]"), SOURCE) == [1]


@pytest.mark.parametrize("bad", ['{"a": ', "nonsense", b'{"a": "\xff"}'])
def test_a_line_that_is_no_json_is_named_by_its_number_in_the_file(tmp_path, bad):
    head = b'{"a": 1}\n\n'
    path = file(tmp_path / "a.jsonl", head + (bad.encode() if isinstance(bad, str) else bad))
    rows = read_jsonl(path, SOURCE)
    assert next(rows) == {"a": 1}
    with pytest.raises(UserError) as error:
        next(rows)
    assert str(error.value).startswith(f"{path}, line 3 is no JSON (")
    assert str(error.value).endswith(f"Download it again: {SOURCE}")


@pytest.mark.parametrize("bad", ["[1]", '"text"', "null", "3"])
def test_a_line_that_is_json_but_no_object_is_an_error(tmp_path, bad):
    path = file(tmp_path / "a.jsonl", bad)
    with pytest.raises(UserError, match="line 1 is no JSON object"):
        list(read_jsonl(path, SOURCE))


def test_a_missing_file_is_named_with_who_offers_it(tmp_path):
    path = tmp_path / "a.json"
    for read in (lambda: list(read_jsonl(path, SOURCE)), lambda: read_json(path, SOURCE)):
        with pytest.raises(UserError) as error:
            read()
        assert str(error.value) == f"{path} is missing: download {SOURCE}"


def test_json_may_be_anything_and_damage_is_named_with_its_line(tmp_path):
    assert read_json(file(tmp_path / "a.json", '[{"a": null}, 2]'), SOURCE) == [{"a": None}, 2]
    path = file(tmp_path / "b.json", '{"a": 1,\n"b"}')
    with pytest.raises(UserError) as error:
        read_json(path, SOURCE)
    assert str(error.value).startswith(f"{path} is no JSON (") and "line 2" in str(error.value)


def test_questions_are_asked_as_they_stand(tmp_path):
    line = '{"question_id": "7", "image": "n1/a.jpg", "text": "What?\\nBriefly.", "category": "x", "more": 1}'
    file(tmp_path / GQA.annotations, line)
    (question,) = read_questions(GQA, tmp_path)
    assert question.id == "7"
    assert question.text == question.prompt == "What?\nBriefly."
    assert question.image == tmp_path / "benchmark_data/gqa/images/n1/a.jpg"
    assert (question.square, question.max_new_tokens, dict(question.extra)) == (False, 128, {})
    assert read_rows(GQA, tmp_path)[0]["more"] == 1


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ('{"question_id": 2, "text": "What?"}', "image is None"),
        ('{"question_id": 2, "image": "a.jpg", "text": 3}', "text is 3"),
        ('{"question_id": null, "image": "a.jpg", "text": "What?"}', "question_id is None"),
    ],
)
def test_a_row_without_what_a_question_needs_is_named(tmp_path, row, problem):
    path = file(tmp_path / GQA.annotations, '{"question_id": 1, "image": "a.jpg", "text": "What?"}\n' + row)
    with pytest.raises(UserError) as error:
        read_questions(GQA, tmp_path)
    assert str(error.value) == f"{path}, row 1: {problem}. Download it again: {GQA.source}"
