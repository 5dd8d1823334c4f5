"""Benchmark files as other people save and edit them: the right score, or a sentence that names file and row.

The kinds are those of public reports on evaluating LLaVA: files saved under Windows, tables that pandas wrote anew,
labels sorted otherwise, questions cut out or joined.
"""

from __future__ import annotations

import json
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from mobilevlm.errors import UserError
from mobilevlm.eval.question_file import accuracy, grade, read_question_file
from mobilevlm.eval.task import Answer, Task
from mobilevlm.eval.tasks import TASKS
from mobilevlm.mmbench_table import read_table
from mobilevlm.train.demo.make_benchmarks import make_benchmarks
from tests.conftest import ROOT, run

RUN, QUESTIONS = ROOT / "eval" / "run.py", ROOT / "eval" / "questions.py"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The six benchmarks in small. Do not write into it: see `data`."""
    out = tmp_path_factory.mktemp("made") / "data"
    make_benchmarks(out, 6)
    return out


@pytest.fixture
def data(made, tmp_path) -> Path:
    return shutil.copytree(made, tmp_path / "data")


def answered(task: Task, data: Path) -> list[Answer]:
    """Answers that are partly right, in turn."""
    said = ("Yes", "No", "A", "B", "red", "2")
    return [question.answered(said[number % len(said)]) for number, question in enumerate(task.questions(data))]


def scores(task: Task, data: Path) -> dict[str, float]:
    return task.metrics(task.counts(data, answered(task, data)).total())


SAVED: dict[str, Callable[[str], bytes]] = {
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "a byte order mark": lambda text: text.encode("utf-8-sig"),
    "UTF-16": lambda text: text.encode("utf-16"),
    "a mark and CRLF": lambda text: text.replace("\n", "\r\n").encode("utf-8-sig"),
    "no last line end": lambda text: text.rstrip("\n").encode(),
    "blank lines": lambda text: ("\n" + text + "\n\n").encode(),
    "UTF-32": lambda text: text.encode("utf-32"),
}


@pytest.mark.parametrize("kind", SAVED)
@pytest.mark.parametrize("name", TASKS)
def test_files_saved_by_others_give_the_same_score(name, kind, made, data):
    """Text files of a benchmark written anew: the same questions and scores.

    Public: qiyama/chinese-qa-with-bert issue 15.
    """
    task = TASKS[name]
    for path in task.folder(data).rglob("*"):
        if path.suffix in (".json", ".jsonl", ".tsv", ".txt"):
            text = path.read_text()
            if path.suffix == ".tsv" and kind == "blank lines":
                continue  # its first line has the names
            path.write_bytes(SAVED[kind](text))
    for here, there in zip(task.questions(data), task.questions(made), strict=True):
        assert (here.id, here.text, here.saved_prompt) == (there.id, there.text, there.saved_prompt)
    assert scores(task, data) == scores(task, made)


def edited(path: Path, edit: Callable[[list], object]) -> None:
    """Changes the rows of a file of JSON lines, of a JSON file, or the lines of another."""
    text = path.read_text()
    if path.suffix == ".jsonl" or path.parent.name == "coco":
        rows = [json.loads(line) for line in text.splitlines()]
        edit(rows)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".json":
        content = json.loads(text)
        edit(content)
        path.write_text(json.dumps(content))
    else:
        lines = text.split("\n")
        edit(lines)
        path.write_text("\n".join(lines))


def first(content) -> dict:
    """The first entry of a list or an object of entries."""
    return content[0] if isinstance(content, list) else next(iter(content.values()))


GQA, TRUTHS = "gqa/llava_gqa_testdev_balanced.jsonl", "gqa/testdev_balanced_questions.json"
POPE, LABELS = "pope/llava_pope_test.jsonl", "pope/coco/coco_pope_random.json"
SQA, PROBLEMS = "sqa/llava_test_CQM-A.json", "sqa/problems.json"
TEXTVQA, MME = "textvqa/TextVQA_0.5.1_val.json", "mme/llava_mme.jsonl"
NAMED = {
    "GQA, a question twice": (GQA, lambda rows: rows.append(rows[0]), "question .* of GQA has two answers"),
    "GQA, no truth": (TRUTHS, lambda truths: truths.pop(next(iter(truths))), "the answers have question .* does not"),
    "GQA, a truth without answer": (TRUTHS, lambda truths: first(truths).pop("answer"), "lacks answer or isBalanced"),
    "GQA, an id with a point": (GQA, lambda rows: rows[0].update(question_id=1.0), "row 0: question_id is 1.0"),
    "GQA, NaN for a question": (GQA, lambda rows: rows[0].update(text=float("nan")), "row 0: text is nan"),
    "GQA, half an emoji": (GQA, lambda rows: rows[0].update(text="\ud83d?"), r"row 0: text has half a character"),
    "GQA, base64 for a name": (GQA, lambda rows: rows[0].update(image="A" * 9999), "row 0: image is a text of 9999"),
    "SQA, base64 for a name": (SQA, lambda rows: rows[0].update(image="A" * 9999), "row 0: image is a text of 9999"),
    "POPE, labels shuffled": (LABELS, lambda rows: rows.reverse(), "row 0 is for .* These are of different releases"),
    "POPE, questions shuffled": (POPE, lambda rows: rows.reverse(), "row 0 is for .* These are of different releases"),
    "POPE, a label missing": (LABELS, lambda rows: rows.pop(), "labels, .* such questions"),
    "POPE, no label": (LABELS, lambda rows: rows[0].pop("label"), "row 0: label is None"),
    "POPE, a question twice": (POPE, lambda rows: rows.append(rows[-1]), "labels, .* such questions"),
    "MME, a question twice": (MME, lambda rows: rows.__setitem__(1, rows[0]), "image .* of MME has two answers to"),
    "MME, no category": (MME, lambda rows: rows[0].update(question_id="x/1.png"), "row 0: x/1.png is of no category"),
    "TextVQA, nine answers": (TEXTVQA, lambda all_: all_["data"][0]["answers"].pop(), "row 0 .*10 texts are expected"),
    "TextVQA, NaN for an answer": (
        TEXTVQA,
        lambda all_: all_["data"][0]["answers"].__setitem__(3, float("nan")),
        "row 0 of `data`: answers is .*nan",
    ),
    "TextVQA, a truth missing": (TEXTVQA, lambda all_: all_["data"].pop(0), "TextVQA has no question"),
    "SQA, an index with a point": (PROBLEMS, lambda all_: first(all_).update(answer=1.0), "answer 1.0 of choices"),
    "SQA, true for an index": (PROBLEMS, lambda all_: first(all_).update(answer=True), "answer True of choices"),
    "SQA, a letter for an index": (PROBLEMS, lambda all_: first(all_).update(answer="B"), "answer 'B' of choices"),
    "SQA, a truth missing": (PROBLEMS, lambda all_: all_.pop(next(iter(all_))), "answer None of choices"),
    "SQA, a question twice": (SQA, lambda rows: rows.append(rows[0]), "question .* of ScienceQA has two answers"),
    "SQA, half an emoji": (SQA, lambda rows: rows[0]["conversations"][0].update(value="\ud83d"), "half a character"),
}


@pytest.mark.parametrize("kind", NAMED)
def test_an_edited_file_is_named_before_a_question_is_asked(kind, data):
    """Named by row. Public: haotian-liu/LLaVA issue 869, TRI-ML/vlm-evaluation issue 2, instructlab/eval issue 38."""
    name, edit, problem = NAMED[kind]
    edited(data / "benchmark_data" / name, edit)
    task = TASKS[name.split("/")[0]]
    with pytest.raises(UserError, match=problem):
        task.counts(data, [question.answered("") for question in task.questions(data)])


SAME = {
    "GQA, truths in capitals": (TRUTHS, lambda all_: [e.update(answer=e["answer"].upper()) for e in all_.values()]),
    "POPE, labels in capitals": (LABELS, lambda rows: [row.update(label=row["label"].title()) for row in rows]),
    "GQA, more truths than questions": (TRUTHS, lambda all_: all_.update(x={"answer": "a", "isBalanced": True})),
}


@pytest.mark.parametrize("kind", SAME)
def test_an_edit_that_says_the_same_gives_the_same_score(kind, made, data):
    """Truths in other letter case counted as wrong, without a word. Public: stanford-crfm/helm issue 424."""
    name, edit = SAME[kind]
    edited(data / "benchmark_data" / name, edit)
    task = TASKS[name.split("/")[0]]
    assert scores(task, data) == scores(task, made)


@pytest.mark.parametrize("name", ["gqa", "sqa", "textvqa", "mme"])
def test_questions_that_were_cut_out_are_counted(name, made):
    """The score is over those that are asked; stderr names the others. Public: haotian-liu/LLaVA issue 584."""
    task = TASKS[name]
    questions = task.questions(made)
    assert [task.unasked(made, questions[start:]) for start in range(3)] == [0, 1, 2]


def table(data: Path, edit: Callable[[dict[str, str]], object], row: int = 1) -> None:
    """Changes cells of a line of MMBench's table."""
    (path,) = (data / "benchmark_data/mmbench").glob("*.tsv")
    lines = path.read_text().split("\n")
    cells = dict(zip(lines[0].split("\t"), lines[row].split("\t"), strict=True))
    edit(cells)
    lines[row] = "\t".join(cells.values())
    path.write_text("\n".join(lines))


def test_a_table_that_pandas_wrote_anew_gives_the_same_score(made, data):
    """pandas writes indices with a point beside missing cells, and NaN for these; people write letters small.

    Public: open-compass/VLMEvalKit issues 677 and 1559 (a text that pandas made NaN).
    """
    (path,) = (data / "benchmark_data/mmbench").glob("*.tsv")
    for row in range(1, len(path.read_text().rstrip("\n").split("\n"))):
        table(data, lambda cells: cells.update(index=f"{cells['index']}.0", answer=f" {cells['answer'].lower()}"), row)
        table(data, lambda cells: cells.update({name: text or "NaN" for name, text in cells.items()}), row)
    assert scores(TASKS["mmbench"], data) == scores(TASKS["mmbench"], made)


TABLES = {
    "no truth": (lambda cells: cells.update(answer="NaN"), "and None is to be right"),
    "an option missing": (lambda cells: cells.update(A="NaN"), "0 options, and . is to be right"),
    "no index": (lambda cells: cells.update(index="NaN"), "line 2: index '' is none"),
    "half an index": (lambda cells: cells.update(index="7.5"), "line 2: index '7.5' is none"),
    "no question": (lambda cells: cells.update(question="NaN"), "or has no question"),
    "no image": (lambda cells: cells.update(image="NaN"), "its image is no base64"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_an_edited_table_is_named(kind, data):
    """Cells without a value. Public: open-compass/VLMEvalKit issue 268, MME-Benchmarks/MME-CoT issue 2."""
    edit, problem = TABLES[kind]
    table(data, edit)
    task = TASKS["mmbench"]
    with pytest.raises(UserError, match=problem):
        task.counts(data, [question.answered("A") for question in task.questions(data)])


def test_an_index_twice_in_a_table_is_named(data):
    """One index, two questions: refused. Public: ChuXiaokai/baidu_ultr_dataset issue 9."""
    (path,) = (data / "benchmark_data/mmbench").glob("*.tsv")
    index = next(iter(read_table(path)))
    table(data, lambda cells: cells.update(index=f"{index}.0"), row=2)
    with pytest.raises(UserError, match="line 3: index .* is none or a second one"):
        TASKS["mmbench"].questions(data)


OWN = [{"question": "Which, ü?", "answer": "Blue é"}, {"question": "And?", "answer": ["no", "No."]}]


@pytest.mark.parametrize("kind", SAVED)
def test_own_questions_saved_by_others_are_the_questions(kind, tmp_path):
    """Encodings and line ends: the same questions. Public: openai/evals issue 625."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in OWN)
    (tmp_path / "q.jsonl").write_bytes(SAVED[kind](text))
    found = read_question_file(tmp_path / "q.jsonl")
    assert [one.question.text for one in found] == ["Which, ü?", "And?"]


def test_an_answer_from_macos_is_the_answer(tmp_path):
    """An accent apart (NFD) is the same word; a question twice counts twice. Public: OCR-D/spec pull request 225."""
    row = {"question": "Which?", "answer": unicodedata.normalize("NFD", "Café")}
    (tmp_path / "q.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row))
    asked = read_question_file(tmp_path / "q.jsonl")
    said = [one.question.answered(unicodedata.normalize("NFC", "café.")) for one in asked]
    assert accuracy(grade(asked, said).total()) == 100 and len(asked) == 2


def test_an_image_that_is_missing_is_named_with_the_file_that_is_there(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.png").touch()
    (tmp_path / "q.jsonl").write_text(json.dumps(OWN[0] | {"image": r"sub\a.png"}))
    with pytest.raises(UserError, match=r"1 of 1 images are missing, e.g. .*there is sub/a.png: write / instead of"):
        read_question_file(tmp_path / "q.jsonl")


REFUSED = {
    "no answer": ('{"question": "a?"}', "line 1: answer is None"),
    "NaN": ('{"question": "a?", "answer": NaN}', "line 1: answer is nan"),
    "no question": ('{"answer": "a"}', "line 1: question is None"),
    "half an emoji": (r'{"question": "a\ud83d?", "answer": "b"}', r"line 1: question has half a character \(\\ud83d"),
    "half an emoji in a name": (r'{"image": "\ud83d.png", "question": "a?", "answer": "b"}', "half a character"),
    "base64 for a name": (
        json.dumps({"image": "A" * 9999, "question": "a?", "answer": "b"}),
        "of 9999 characters, not",
    ),
    "an address": ('{"image": "https://a.org/b.png", "question": "a?", "answer": "b"}', "image is an address"),
    "trailing comma": ('{"question": "a?", "answer": "b",}', "line 1 is no JSON"),
    "a list": ('[{"question": "a?", "answer": "b"}]', "line 1 is no JSON object"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_own_questions_that_are_none_are_named(kind, tmp_path):
    """Lines without what a question needs. Public: haotian-liu/LLaVA issue 31, zhuzil/VTC-Bench issue 4."""
    line, problem = REFUSED[kind]
    (tmp_path / "q.jsonl").write_text(line + "\n")
    with pytest.raises(UserError, match=problem):
        read_question_file(tmp_path / "q.jsonl")


def test_the_commands_read_files_in_utf16(demo_fp32, made, data, tmp_path):
    """The real processes: the same table from POPE's files in UTF-16 with CRLF; own questions with a mark.

    Public: invictus-ir/Microsoft-Extractor-Suite issue 25 (programs that write JSON in UTF-16).
    """
    for path in (data / "benchmark_data/pope").rglob("*.json*"):
        path.write_bytes(path.read_text().replace("\n", "\r\n").encode("utf-16"))
    words = ("--engine", demo_fp32, "--tasks", "pope", "--limit", "4")
    tables = []
    edited(data / "benchmark_data" / GQA, lambda rows: rows.pop())
    cut = run(RUN, "--engine", demo_fp32, "--tasks", "gqa", "--data", data, "--out", tmp_path / "cut")
    assert cut.returncode == 0 and "GQA lacks 1 questions that have an answer" in cut.stderr
    for root in (made, data):
        done = run(RUN, *words, "--data", root, "--out", tmp_path / root.parent.name)
        assert done.returncode == 0, done.stderr
        tables.append(next(line for line in done.stdout.splitlines() if line.startswith("| POPE")))
    assert tables[0] == tables[1]
    (tmp_path / "q.jsonl").write_bytes(json.dumps(OWN[0], ensure_ascii=False).encode("utf-8-sig"))
    done = run(QUESTIONS, "--questions", tmp_path / "q.jsonl", "--engine", demo_fp32, "--out", tmp_path / "own")
    assert done.returncode == 0, done.stderr
    (tmp_path / "q.jsonl").write_text(REFUSED["half an emoji"][0])
    done = run(QUESTIONS, "--questions", tmp_path / "q.jsonl", "--engine", demo_fp32, "--out", tmp_path / "own")
    assert done.returncode == 2 and "line 1: question has half a character" in done.stderr
