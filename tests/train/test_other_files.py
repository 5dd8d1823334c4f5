"""Files of rows as other people save them: read in every layout and encoding with a mark, or named with the cause.

The kinds are those of public reports on fine-tuning LLaVA under Windows: "Unexpected UTF-8 BOM", a UnicodeDecodeError,
"Extra data: line 2 column 1", and downloads that are something else.
"""

from __future__ import annotations

import gzip
import json

import pytest

from mobilevlm.errors import UserError
from mobilevlm.rows.annotations import read_rows
from mobilevlm.train.data import read_rows as lazy_rows
from mobilevlm.train.recipe import RECIPES, load_recipe
from mobilevlm.train.texts import read_texts

TURNS = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A square."}]
GOOD = {"id": "good", "image": "0.png", "conversations": TURNS}
TEXT = {"id": "text", "conversations": [{"from": "human", "value": "Hi, ü 日?"}, {"from": "gpt", "value": "Yes."}]}


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


LIST, LINES = json.dumps([GOOD, TEXT], ensure_ascii=False), lines(GOOD, TEXT)
MARKED = "\ufeff"
FILES = {
    "a list": ("a.json", LIST.encode()),
    "UTF-8 with a mark": ("a.json", (MARKED + LIST).encode()),
    "UTF-16": ("a.json", LIST.encode("utf-16")),
    "UTF-16, big end first": ("a.json", (MARKED + LIST).encode("utf-16-be")),
    "UTF-32": ("a.json", LIST.encode("utf-32")),
    "CRLF": ("a.json", json.dumps([GOOD, TEXT], indent=1).replace("\n", "\r\n").encode()),
    "lines": ("a.jsonl", LINES.encode()),
    "lines with CRLF": ("a.jsonl", LINES.replace("\n", "\r\n").encode()),
    "lines with a mark": ("a.jsonl", (MARKED + LINES).encode()),
    "lines in UTF-16": ("a.jsonl", LINES.encode("utf-16")),
    "lines without the last end": ("a.jsonl", LINES.strip().encode()),
    "lines with blank ones": ("a.jsonl", LINES.replace("\n", "\n\n \n").encode()),
    "lines named in capitals": ("A.JSONL", LINES.encode()),
    "lines named ndjson": ("a.ndjson", LINES.encode()),
    "a list named as lines": ("a.jsonl", LIST.encode()),
    "lines of joined files": ("a.jsonl", (MARKED + lines(GOOD) + MARKED + lines(TEXT)).encode()),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_from_another_system_is_read(kind, tmp_path):
    """Windows' editors and PowerShell write marks, UTF-16 and CRLF; reported as "Unexpected UTF-8 BOM".

    Public: WangRongsheng/MedQA-ChatGLM issue 2 (a mark), invictus-ir/Microsoft-Extractor-Suite issue 25 (UTF-16),
    haotian-liu/LLaVA issue 1753 (lines).
    """
    name, content = FILES[kind]
    (tmp_path / name).write_bytes(content)
    assert list(read_rows(tmp_path / name)) == [GOOD, TEXT]
    rows = lazy_rows(tmp_path / name)
    assert (rows[1], rows[0], len(rows)) == (TEXT, GOOD, 2)


SPOILED = {
    "lines named .json": ("a.json", LINES.encode(), "starts with '{'. .*name it .jsonl if it holds an object per line"),
    "trailing comma in the list": ("a.json", LIST[:-1].encode() + b",]", "is no JSON at row 2: Expecting value"),
    "trailing comma in a row": ("a.json", LIST.replace('."}]}', '.",}]}').encode(), "is no JSON at row 0"),
    "lines with commas": ("a.jsonl", LINES.replace("}\n", "},\n").encode(), "is no JSON at row 1"),
    "Python's quotes": ("a.json", repr([GOOD]).encode(), "is no JSON at row 0"),
    "UTF-16 without a mark": ("a.json", LIST.encode("utf-16-le"), "looks like UTF-16 without a byte order mark"),
    "damaged UTF-16": ("a.json", LIST.encode("utf-16")[:-1], "is no UTF-16-LE text"),
    "a Windows code page": ("a.json", LIST.replace("日", "É").encode("cp1252"), "no UTF-8 text .*Windows code page"),
    "gzip": ("a.json", gzip.compress(LIST.encode() * 9), "no UTF-8 text .*binary data"),
    "git-lfs": ("a.json", b"version https://git-lfs.github.com/spec/v1\n", "by `git lfs pull`: it is a pointer"),
    "nothing": ("a.json", b"", "is empty"),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_a_file_that_is_something_else_is_named(kind, tmp_path):
    """Other layouts, broken JSON, code pages and downloads that are none: the place and the cause.

    Public: lil-lab/nlvr issue 1 (lines), haotian-liu/LLaVA issue 1775 (broken JSON), IBM/Grapher issue 4 (a code page),
    openai/evals issue 625 (git-lfs).
    """
    name, content, problem = SPOILED[kind]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=problem):
        len(lazy_rows(tmp_path / name))


SAVED = {"a mark": "utf-8-sig", "UTF-16": "utf-16", "UTF-32": "utf-32"}


@pytest.mark.parametrize("kind", SAVED)
def test_a_recipe_saved_by_a_windows_editor_is_the_recipe(kind, tmp_path):
    """A byte order mark, UTF-16, CRLF. Public: volcengine/OpenViking pull request 500."""
    text = (RECIPES / "v2_stage2.json").read_text()
    (tmp_path / "v2_stage2.json").write_bytes(text.replace("\n", "\r\n").encode(SAVED[kind]))
    assert load_recipe(tmp_path / "v2_stage2.json") == load_recipe("v2_stage2")


@pytest.mark.parametrize("kind", SAVED)
def test_texts_saved_by_a_windows_editor_are_the_texts(kind, tmp_path):
    """A byte order mark is not learned as a character of the first text.

    Public: langchain-ai/langchain-community pull request 138.
    """
    (tmp_path / "a.txt").write_bytes("One.\r\nTwo ü.\r\n".encode(SAVED[kind]))
    (tmp_path / "a.jsonl").write_bytes('{"text": "One."}\r\n\r\n{"text": "Two ü."}'.encode(SAVED[kind]))
    (tmp_path / "a.json").write_bytes(LIST.encode(SAVED[kind]))
    assert list(read_texts(tmp_path / "a.txt")) == ["One.\nTwo ü.\n"]
    assert list(read_texts(tmp_path / "a.jsonl")) == ["One.", "Two ü."]
    assert list(read_texts(tmp_path / "a.json")) == ["What?\nA square.", "Hi, ü 日?\nYes."]


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("a.jsonl", lines({"text": "a"}, {"text": "b \ud83d"}), "line 2 has half a character"),
        ("a.json", json.dumps([GOOD, {"conversations": [{"from": "human", "value": "\ud83d"}]}]), "row 1 has half a"),
    ],
)
def test_half_an_emoji_in_a_text_is_named(name, content, place, tmp_path):
    """RuntimeError in SentencePiece, in the middle of packing. Public: huggingface/transformers issue 8886."""
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=place):
        list(read_texts(tmp_path / name))
