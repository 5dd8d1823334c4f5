"""Rows parsed when asked for are those of json.loads, in every process; a file that cannot be used is named."""

from __future__ import annotations

import json
import pickle

import pytest

from mobilevlm.errors import UserError
from mobilevlm.rows import annotations
from mobilevlm.train.lazy_rows import LazyRows

# Line ends of Unicode's but not of JSON's, characters of one to four bytes, a lone half of a pair as an escape.
ROWS = [{"id": n, "text": "a\u2028b\u0085c\x0b ö 日 \U0001f600 \ud800" * n, "deep": [{"}": "]"}]} for n in range(9)]
TEXTS = {
    "list.json": json.dumps(ROWS),
    "indented.json": "\n " + json.dumps(ROWS, indent=2) + "\n",
    "marked.json": "\ufeff" + json.dumps(ROWS),
    "lines.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS),
    "crlf.jsonl": "\r\n\r\n".join(json.dumps(row) for row in ROWS),
    "raw.jsonl": "\n".join(json.dumps(row, ensure_ascii=False).replace("\ud800", "\\ud800") for row in ROWS),
}


@pytest.mark.parametrize("chunk", [5, 1 << 20])
@pytest.mark.parametrize("name", TEXTS)
def test_rows_are_those_of_the_file(monkeypatch, tmp_path, name, chunk):
    monkeypatch.setattr(annotations, "_CHUNK", chunk)
    (tmp_path / name).write_bytes(TEXTS[name].encode())
    rows = LazyRows(tmp_path / name)
    assert list(rows) == ROWS  # while they are found
    assert list(rows) == ROWS
    assert (len(rows), rows[7], rows[-1], rows[0]) == (9, ROWS[7], ROWS[8], ROWS[0])
    with pytest.raises(IndexError):
        rows[9]
    assert LazyRows(tmp_path / name)[3] == ROWS[3]


def test_only_places_are_kept_and_go_to_other_processes(tmp_path):
    (tmp_path / "rows.json").write_text(json.dumps([{"text": "x" * 10_000}] * 100))
    rows = LazyRows(tmp_path / "rows.json")
    assert len(pickle.loads(pickle.dumps(rows))) == len(rows) == 100
    sent = pickle.dumps(rows)
    assert len(sent) < 100 * 16 + 1000
    assert pickle.loads(sent)[99] == rows[99]


def test_going_through_part_of_the_rows_finds_none(tmp_path):
    (tmp_path / "rows.json").write_text(json.dumps(ROWS))
    rows = LazyRows(tmp_path / "rows.json")
    next(iter(rows))
    assert len(rows) == 9


BROKEN = {
    "no list": ("a.json", b"{}", "is no JSON list: it starts with '{'. .* name it .jsonl"),
    "nothing": ("a.json", b"", "is no JSON list: it is empty"),
    "no lines": ("a.jsonl", b" \n", "holds no training rows"),
    "no rows": ("a.json", b"[]", "holds no training rows"),
    "cut": ("a.json", b'[{"id": 1}, {"id"', "ends in the middle of row 1"),
    "not closed": ("a.json", b'[{"id": 1}', "ends after row 0 without the closing"),
    "a wrong line": ("a.jsonl", b'{"id": 1}\n{id: 2}\n', "is no JSON at row 1: .* near '.*id: 2"),
    "other text": ("a.json", b'[{"id": "\xff"}]', "is no UTF-8 text"),
    "too deep": ("a.json", b"[" * 100_000, "cannot be read at row 0: .*recursion"),
    "a long number": ("a.json", b"[" + b"1" * 5000 + b"]", "cannot be read at row 0: .*4300"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_is_broken_is_named_with_the_place(tmp_path, name):
    file, content, problem = BROKEN[name]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(UserError, match=f"{file} {problem}"):
        len(LazyRows(tmp_path / file))


def test_what_is_no_file_is_named(tmp_path):
    with pytest.raises(UserError, match="none.json does not exist: give --data"):
        list(LazyRows(tmp_path / "none.json"))
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        list(LazyRows(tmp_path))


@pytest.mark.parametrize("change", [lambda text: text[:50], lambda text: "[1, " + text[1:], None])
def test_a_file_that_changes_under_a_run_is_an_error(tmp_path, change):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(ROWS))
    rows = LazyRows(path)
    assert len(rows) == 9
    path.write_text(change(path.read_text())) if change else path.unlink()
    with pytest.raises(UserError, match="row 8 can no longer be read from .*rows.json"):
        rows[8]
