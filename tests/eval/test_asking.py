"""eval/run.py with an engine made for the test: what it asks, when it refuses, what it has written by then."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobilevlm.engines.bundle import BundleError
from mobilevlm.errors import UserError
from mobilevlm.eval import run as evaluation
from mobilevlm.eval.answers import WHOLE, read_answers
from mobilevlm.eval.engine import PyTorchEngine
from mobilevlm.eval.report import claim
from mobilevlm.presets import PRESETS

QUESTIONS = 10
TRUTHS = "benchmark_data/gqa/testdev_balanced_questions.json"
LABELS = "benchmark_data/pope/coco/coco_pope_random.json"


class Stub:
    """Says of each question where in its batch it was, so that another batch would be another answer."""

    def __init__(self, problem: str = "", vision: bool = True, while_asked: Callable[[], object] = lambda: None):
        config = PRESETS["mobilevlm_v2_1.7b"]
        self.config = config if vision else replace(config, vision=None)
        self.identity, self.conv_mode = {"model": "/models/stub", "files": "1"}, "v1"
        self.problem, self.while_asked = problem, while_asked
        self.batches: list[list[str]] = []

    def open(self) -> None:
        if self.problem:
            raise BundleError(self.problem)

    def answer(self, asked: Sequence[tuple[str, np.ndarray | None]], max_new_tokens: int) -> list[str]:
        self.while_asked()
        if any("endlessly" in text for text, _ in asked):
            raise UserError("the prompt has 9999 tokens, the context holds 2048")
        self.batches.append([text for text, _ in asked])
        return [f"{number} of {len(asked)}" for number in range(len(asked))]


def write_lines(path: Path, rows: Sequence[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def gqa_rows(**wording: str) -> list[dict]:
    """Two questions about each picture; `q3` is the wording of the fourth."""
    texts = [wording.get(f"q{number}", f"What is {number}?") for number in range(QUESTIONS)]
    return [{"question_id": str(n), "image": f"{n // 2}.png", "text": text} for n, text in enumerate(texts)]


@pytest.fixture
def data(tmp_path) -> Path:
    """GQA, POPE and MMBench, with a picture for all."""
    root = tmp_path / "data" / "benchmark_data"
    write_lines(root / "gqa/llava_gqa_testdev_balanced.jsonl", gqa_rows())
    truths = {str(number): {"answer": "0 of 1", "isBalanced": True} for number in range(QUESTIONS)}
    (root / "gqa/testdev_balanced_questions.json").write_text(json.dumps(truths))
    asked = [{"question_id": n, "image": "0.png", "text": f"Is it {n}?", "category": "random"} for n in range(4)]
    write_lines(root / "pope/llava_pope_test.jsonl", asked)
    for kind in ("adversarial", "popular", "random"):
        labels = [row | {"label": "yes"} for row in asked if row["category"] == kind]
        write_lines(root / f"pope/coco/coco_pope_{kind}.json", labels)
    picture = Image.new("RGB", (6, 4), "red")
    for name in ("gqa/images", "pope/val2014"):
        (root / name).mkdir(parents=True)
        for number in range(QUESTIONS // 2):
            picture.save(root / name / f"{number}.png")
    (root / "mmbench").mkdir()
    table = "index\tquestion\thint\tA\tB\tC\tD\tanswer\tcategory\timage\n7\tWhat?\t\tx\ty\t\t\tA\tc\tAAAA\n"
    (root / "mmbench/mmbench_dev_en_20231003.tsv").write_text(table)
    return tmp_path / "data"


@pytest.fixture
def run(data, tmp_path, monkeypatch):
    """Runs the command with an engine; its answers and scores go to tmp_path/out."""

    def call(engine: Stub, *words: str) -> Path:
        monkeypatch.setattr(evaluation, "open_engine", lambda *_: engine)
        words = ("--model", "stub", "--data", str(data), "--out", str(tmp_path / "out"), *words)
        evaluation.evaluate(evaluation.parser().parse_args(words))
        return tmp_path / "out"

    return call


def lines(out: Path, task: str = "gqa") -> list[bytes]:
    return (out / task / WHOLE).read_bytes().splitlines(keepends=True)


def test_an_engine_that_cannot_be_opened_is_no_wrong_answer(run, tmp_path):
    """It was: every question counted as wrong, the run ended with a score, and asked none of them ever again."""
    with pytest.raises(BundleError, match="float16 stages are expanded"):
        run(Stub(problem="float16 stages are expanded to 9.9 GB in memory"), "--tasks", "gqa")
    assert lines(tmp_path / "out") == [] and not (tmp_path / "out/scores.json").exists()
    out = run(Stub(), "--tasks", "gqa")
    assert [answer.failed for answer in read_answers(out / "gqa" / WHOLE)] == [False] * QUESTIONS


def test_with_all_answered_nothing_is_opened(run, capsys):
    run(Stub(), "--tasks", "gqa,pope")
    first = capsys.readouterr().out
    run(Stub(problem="no memory"), "--tasks", "gqa,pope")
    assert capsys.readouterr().out == first


def test_a_question_that_is_too_long_is_a_wrong_answer(run, data):
    """The others of its batch are asked alone."""
    write_lines(data / "benchmark_data/gqa/llava_gqa_testdev_balanced.jsonl", gqa_rows(q1="Endless, endlessly"))
    answers = list(read_answers(run(Stub(), "--tasks", "gqa", "--batch-size", "4") / "gqa" / WHOLE))
    assert [answer.failed for answer in answers] == [number == 1 for number in range(QUESTIONS)]
    texts = ["0 of 1", "", "0 of 1", "0 of 1", *(f"{n} of 4" for n in range(4)), "0 of 2", "1 of 2"]
    assert [answer.text for answer in answers] == texts


@pytest.mark.parametrize("kept", range(QUESTIONS + 1))
def test_a_batch_is_asked_whole_or_not_at_all(run, kept):
    """Killed between two lines of a batch and run again, the file is that of an unbroken run, to the byte."""
    words = ("--tasks", "gqa", "--batch-size", "4")
    whole = lines(run(Stub(), *words))
    (run(Stub(), *words) / "gqa" / WHOLE).write_bytes(b"".join(whole[:kept]) + b'{"cut')
    again = Stub()
    assert lines(run(again, *words)) == whole
    asked = [text for batch in again.batches for text in batch]
    assert len(asked) == (0 if kept == QUESTIONS else QUESTIONS - kept // 4 * 4)


def test_answers_to_another_wording_are_refused(run, data):
    """The ids are the same: data that was made again, say."""
    run(Stub(), "--tasks", "gqa")
    write_lines(data / "benchmark_data/gqa/llava_gqa_testdev_balanced.jsonl", gqa_rows(q3="What is three?"))
    with pytest.raises(UserError, match=r"line 4 answers question 3 \('What is 3\?'\), which is not the one asked"):
        run(Stub(), "--tasks", "gqa")


def spoil(data: Path, file: str, text: str) -> None:
    (data / file).write_text(text)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (TRUTHS, '{"0": {"answer', "GQA could not be scored: .*testdev_balanced_questions.json is no JSON"),
        (
            TRUTHS,
            '{"7": {"answer": "yes", "isBalanced": true}}',
            "GQA could not be scored: .* question 0, .* does not",
        ),
        (LABELS, '{"label": "yes"}\n', "POPE could not be scored: .* has 1 labels"),
    ],
)
def test_what_scoring_lacks_is_said_before_asking(run, data, tmp_path, file, text, message):
    spoil(data, file, text)
    with pytest.raises(UserError, match=message):
        run(Stub(), "--tasks", "gqa,pope,mmbench")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("package", ["openpyxl", "tqdm"])
def test_a_package_that_is_missing_is_said_before_asking(run, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"needs {package}: pip install 'mobilevlm\[eval\]'"):
        run(Stub(), "--tasks", "mmbench")
    assert not (tmp_path / "out").exists()


def test_without_pytorch_a_checkpoint_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r"--model needs torch: pip install 'mobilevlm\[export\]'"):
        PyTorchEngine("x", "v1")


def test_what_one_benchmark_lacks_does_not_take_the_others_score(run, data, tmp_path, capsys):
    """A file that is damaged while the questions are asked."""
    engine = Stub(while_asked=lambda: spoil(data, TRUTHS, "{"))
    with pytest.raises(UserError, match="^GQA has no score: .*testdev_balanced_questions.json is no JSON"):
        run(engine, "--tasks", "gqa,pope")
    (score,) = json.loads((tmp_path / "out/scores.json").read_text())["scores"]
    assert score["task"] == "pope" and "| POPE | f1 | 4 |" in capsys.readouterr().out


def test_a_text_only_model_is_not_shown_pictures(run, tmp_path):
    with pytest.raises(UserError, match="GQA asks about images, and this is a text-only model"):
        run(Stub(vision=False), "--tasks", "gqa")
    assert not (tmp_path / "out").exists()


def test_a_missing_picture_is_counted_once(run, data, capsys):
    """Two questions are about it."""
    (data / "benchmark_data/gqa/images/1.png").unlink()
    out = run(Stub(), "--tasks", "gqa")
    assert capsys.readouterr().err.startswith("1 of 5 images of GQA are missing, e.g. ")
    assert [answer.failed for answer in read_answers(out / "gqa" / WHOLE)] == [n in (2, 3) for n in range(QUESTIONS)]


def test_limit_is_the_first_questions(run):
    out = run(Stub(), "--tasks", "gqa", "--limit", "3")
    assert [answer.id for answer in read_answers(out / "gqa" / WHOLE)] == ["0", "1", "2"]
    assert json.loads((out / "scores.json").read_text())["scores"][0]["n"] == 3


@pytest.mark.parametrize("when", ["before", "after"])
def test_shards_may_start_together(tmp_path, monkeypatch, when):
    """The other one begins while this one looks at the directory."""
    plain = Path.iterdir

    def iterdir(path):
        monkeypatch.setattr(Path, "iterdir", plain)
        seen = list(plain(path))
        claim(path, Stub(), "v1", tmp_path)
        (path / "gqa").mkdir()
        (path / "run.json.1.partial").touch()
        return iter(seen if when == "after" else list(plain(path)))

    monkeypatch.setattr(Path, "iterdir", iterdir)
    claim(tmp_path / "out", Stub(), "v1", tmp_path)
    other = Stub()
    other.identity = other.identity | {"files": "2"}
    with pytest.raises(UserError, match="holds the answers of another run"):
        claim(tmp_path / "out", other, "v1", tmp_path)
