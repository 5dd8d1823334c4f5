"""eval/compare.py on runs written by hand: what is no pair, and which bundles are told."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from mobilevlm.engines.stages import MANIFEST_FILE, REPORT_FILE
from mobilevlm.errors import UserError
from mobilevlm.eval import compare
from mobilevlm.eval.answers import WHOLE, AnswerFile
from mobilevlm.eval.tasks import TASKS

GQA = TASKS["gqa"]
TEXTS = ("red", "blue", "three")


@pytest.fixture
def data(tmp_path) -> Path:
    """Three questions of GQA; the second is not balanced, so it has no part in the score."""
    folder = tmp_path / "data/benchmark_data/gqa"
    folder.mkdir(parents=True)
    rows = [{"question_id": str(n), "image": "a.png", "text": f"What is {n}?"} for n in range(3)]
    (folder / "llava_gqa_testdev_balanced.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    truths = {str(n): {"answer": text, "isBalanced": n != 1} for n, text in enumerate(TEXTS)}
    (folder / "testdev_balanced_questions.json").write_text(json.dumps(truths))
    return tmp_path / "data"


def answered(out: Path, data: Path, texts: Sequence[str] = TEXTS, **identity: str) -> Path:
    """What eval/run.py leaves of a run of GQA, also of one that was killed."""
    with AnswerFile(out / "gqa" / WHOLE, GQA.questions(data), "m") as file:
        for question, text in zip(file.questions, texts, strict=False):
            file.append(question, text, None)
    (out / "run.json").write_text(json.dumps({"data": str(data)} | identity))
    return out


def bundle(path: Path) -> Path:
    path.mkdir()
    (path / MANIFEST_FILE).write_text("{}")
    (path / REPORT_FILE).write_text("# m for host\n\n## Accuracy\n\nof last week\n")
    return path


def call(tmp_path: Path, *runs: Path) -> list[dict]:
    compare.compare(compare.parser().parse_args([*map(str, runs), "--out", str(tmp_path / "compared")]))
    return json.loads((tmp_path / "compared/compare.json").read_text())


def test_runs_without_an_answer_are_refused(data, tmp_path):
    """Both were killed before the first; that was a division by zero."""
    runs = [answered(tmp_path / name, data, ()) for name in "ab"]
    with pytest.raises(UserError, match="GQA: there is no answer to compare yet"):
        call(tmp_path, *runs)


def test_runs_of_another_wording_are_no_pair(data, tmp_path):
    first = answered(tmp_path / "a", data)
    file = data / "benchmark_data/gqa/llava_gqa_testdev_balanced.jsonl"
    file.write_text(file.read_text().replace("What is 2", "Which is 2"))
    with pytest.raises(UserError, match="not to the same questions"):
        call(tmp_path, first, answered(tmp_path / "b", data))


def test_the_score_is_over_what_counts_and_the_agreement_over_all(data, tmp_path):
    reference, other = call(tmp_path, answered(tmp_path / "a", data), answered(tmp_path / "b", data, ("red", "x", "y")))
    assert (reference["n"], reference["score"], reference["agreement"]) == (2, 100, 1)
    assert (reference["difference"], reference["low"], reference["high"]) == (0, 0, 0)
    assert (other["n"], other["score"], other["difference"]) == (2, 50, -50)
    assert other["agreement"] == pytest.approx(1 / 3)


def test_the_references_own_report_stays_as_it_is(data, tmp_path):
    """Its accuracy beside PyTorch's, from an earlier comparison, was replaced by a table of nothing but its scores."""
    bundles = [bundle(tmp_path / name) for name in ("fp32", "fp16")]
    before = (bundles[0] / REPORT_FILE).read_bytes()
    call(tmp_path, *(answered(tmp_path / f"of-{path.name}", data, engine=str(path)) for path in bundles))
    assert (bundles[0] / REPORT_FILE).read_bytes() == before
    told = (bundles[1] / REPORT_FILE).read_text()
    assert told.startswith("# m for host\n") and "of last week" not in told
    assert "| GQA | of-fp32 |" in told and "| GQA | of-fp16 |" in told


def test_a_bundle_that_is_gone_is_left_out(data, tmp_path, capsys):
    """The table is there all the same."""
    gone = tmp_path / "gone"
    call(tmp_path, answered(tmp_path / "a", data), answered(tmp_path / "b", data, engine=str(gone)))
    told = capsys.readouterr()
    assert "| GQA | b | 2 | 100.00 |" in told.out
    assert told.err == f"b: its bundle is no longer at {gone}, whose report is left out\n" and not gone.exists()


def test_the_plot_needs_matplotlib(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"the plot needs matplotlib: pip install 'mobilevlm\[eval\]'"):
        call(tmp_path, answered(tmp_path / "a", data), answered(tmp_path / "b", data))
    assert not (tmp_path / "compared").exists()
