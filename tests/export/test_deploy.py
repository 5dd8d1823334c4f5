"""From a checkpoint to the command that serves it: on the demo model, with questions about its drawings."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mobilevlm.engines.targets import TARGETS
from mobilevlm.errors import UserError
from mobilevlm.export.deploy import deploy, parser
from mobilevlm.export.deploy_steps import is_built
from mobilevlm.export.deployment import Measured, Outcome, candidates_of, refuse_elsewhere
from mobilevlm.runtime import Session
from tests.conftest import DEMO, GOLDEN, ROOT, once, run

PICTURE = ROOT / "assets" / "shapes.png"
DEPLOY = ROOT / "export" / "deploy.py"
COUNT = 24
TIMES = 3  # the same questions again, where asking is to take a while
FEW = 10
QUICK = ["--tokens", 4, "--rounds", 2]


@pytest.fixture(scope="module")
def questions(tmp_path_factory) -> Path:
    """A file of questions about drawings."""

    def make(out: Path) -> None:
        done = run(ROOT / "train/demo/make_questions.py", "--out", out, "--questions", COUNT)
        assert done.returncode == 0, done.stderr

    return once(tmp_path_factory, "demo-questions", make) / "questions.jsonl"


def words_of(out: Path, questions: Path, accept: float, precisions: str = "int8") -> list:
    asked = ["--questions", questions, "--accept", accept, "--precisions", precisions]
    return [DEPLOY, "--model", DEMO, "--target", "host", "--out", out, *asked, *QUICK]


@pytest.fixture(scope="module")
def deployed(tmp_path_factory, questions):
    """A deployment in which int8 is accepted, and what was said."""
    out = tmp_path_factory.mktemp("deployed") / "demo"
    done = run(*words_of(out, questions, 100))
    assert done.returncode == 0, done.stderr
    return out, done


def rows_of(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def answers_of(bundle: Path, file: Path) -> list[str]:
    with Session(bundle) as session:
        return ["".join(session.chat(row["question"], file.parent / row["image"])) for row in rows_of(file)]


def test_what_is_accepted_is_served(deployed, questions):
    """Accuracies and losses are those that sessions have which are asked here."""
    out, done = deployed
    assert done.stdout.splitlines()[-1] == f"python runtime/serve.py --engine {out / 'int8'}"
    assert "the other bundles are kept (fp32)" in done.stderr
    state = json.loads((out / "deployment.json").read_text())
    assert (state["chosen"], state["failed"]) == ("int8", [])
    figures = {one["name"]: one for one in state["measured"]}
    assert list(figures) == ["fp32", "int8"]
    rows, right, said = rows_of(questions), {}, {}
    for name in figures:
        said[name] = answers_of(out / name, questions)
        right[name] = [text.lower().rstrip(".") == row["answer"] for text, row in zip(said[name], rows, strict=True)]
        assert figures[name]["accuracy"] == pytest.approx(100 * sum(right[name]) / COUNT)
        assert figures[name]["megabytes"] > 0 and figures[name]["answer_ms"] > figures[name]["ttft_ms"] > 0
    loss = 100 * (sum(right["fp32"]) - sum(right["int8"])) / COUNT
    assert figures["int8"]["loss"] == pytest.approx(loss)
    assert figures["int8"]["low"] <= loss <= figures["int8"]["high"]
    assert figures["int8"]["same"] == pytest.approx(
        100 * sum(a == b for a, b in zip(said["fp32"], said["int8"], strict=True)) / COUNT
    )
    assert sum(right["fp32"]) > COUNT / 2  # the questions are of a kind that this model answers
    report = (out / "deployment.md").read_text()
    assert report.strip() == done.stdout.strip()
    assert re.search(r"\| int8 +\|.*\| +chosen \|", report) and re.search(r"\| fp32 +\|.*reference", report)


def test_what_only_float32_says_is_refused(deployed, questions, tmp_path):
    """Questions whose right answer is what fp32 says and int8 does not: the table, exit status 2, nothing removed."""
    out, _ = deployed
    file = questions.parent / "describe.jsonl"
    prompt = "Describe the image in detail."
    file.write_text("".join(json.dumps(row | {"question": prompt}) + "\n" for row in rows_of(questions)[:FEW]))
    pairs = zip(rows_of(file), answers_of(out / "fp32", file), answers_of(out / "int8", file), strict=True)
    apart = [row | {"answer": exact} for row, exact, coarse in pairs if exact != coarse]
    assert apart
    for row in apart:
        row["image"] = str(questions.parent / row["image"])  # a path may be absolute
    hard = tmp_path / "hard.jsonl"
    hard.write_text("".join(json.dumps(row) + "\n" for row in apart))
    done = run(*words_of(out, hard, 1.0))
    assert done.returncode == 2
    assert "no precision is chosen: None: int8 loses least on" in done.stderr
    assert f"int8 loses least on {len(apart)} questions, 100.00 percentage points" in done.stdout
    assert "it is within --accept 100." in done.stdout and "serve.py" not in done.stdout
    assert re.search(r"\| int8 +\|.*loses too much", done.stdout)
    assert json.loads((out / "deployment.json").read_text())["chosen"] is None
    assert is_built(out / "int8", candidates_of(TARGETS["host"], ["int8"])[1][0], "host")
    exact = run(*words_of(out, hard, 1.0, "int8,fp32"))
    assert exact.returncode == 0 and exact.stdout.splitlines()[-1].endswith(str(out / "fp32"))


def test_questions_that_nobody_answers_choose_nothing(deployed, tmp_path):
    """Where the reference is never right, no loss could be seen."""
    out, _ = deployed
    file = tmp_path / "odd.jsonl"
    file.write_text(json.dumps({"image": str(PICTURE), "question": "Is it red?", "answer": "zebra"}))
    done = run(*words_of(out, file, 5.0))
    assert done.returncode == 2 and "fp32 answers none of 1 questions as the file does" in done.stderr
    assert "None: fp32 answers none" in done.stdout and "chosen" not in done.stdout


def test_the_same_command_builds_and_asks_nothing_again(deployed, questions, tmp_path):
    out = shutil.copytree(deployed[0], tmp_path / "moved")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.jsonl")}
    done = run(*words_of(out, questions, 100), "--prune")
    assert done.returncode == 0, done.stderr
    assert "building" not in done.stderr and done.stderr.count("is there already") == 2
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*.jsonl")}
    assert "the other bundles are removed (fp32)" in done.stderr
    assert sorted(path.name for path in out.iterdir()) == ["answers", "deployment.json", "deployment.md", "int8"]


def interrupted(words: list, ready) -> subprocess.CompletedProcess:
    """Starts a command and presses Ctrl-C once `ready` says so."""
    command = [sys.executable, *map(str, words)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 200
    while not ready() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=100)
    return subprocess.CompletedProcess(command, process.returncode, "", said)


def test_it_goes_on_where_it_was_stopped(deployed, questions):
    out, _ = deployed
    more = questions.parent / "more.jsonl"
    more.write_text("\n".join(questions.read_text().splitlines() * TIMES))
    known = set((out / "answers").iterdir())

    def asking() -> bool:
        return any(len(path.read_bytes().splitlines()) > 5 for path in set((out / "answers").iterdir()) - known)

    stopped = interrupted(words_of(out, more, 100), asking)
    assert stopped.returncode == 130, stopped.stderr
    assert f"the same command goes on where this one was stopped; {out} has what is done" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    (begun,) = set((out / "answers").iterdir()) - known
    lines = begun.read_bytes()[: begun.read_bytes().rfind(b"\n") + 1]
    assert 5 < len(lines.splitlines()) < TIMES * COUNT
    done = run(*words_of(out, more, 100))
    assert done.returncode == 0, done.stderr
    assert begun.read_bytes().startswith(lines) and len(begun.read_bytes().splitlines()) == TIMES * COUNT


def test_a_stopped_build_leaves_nothing(deployed, questions):
    out, _ = deployed
    stopped = interrupted(words_of(out, questions, 100, "fp16"), lambda: any(out.glob(".fp16.building-*")))
    assert stopped.returncode == 130, stopped.stderr
    assert not (out / "fp16").exists() and not list(out.glob(".*"))


BAD = {
    "no json": ("nonsense", "line 1 is no JSON"),
    "no object": ("[1]", "line 1 is no JSON object"),
    "no question": ('{"image": "a.jpg", "answer": "yes"}', "line 1: question is None"),
    "no answer": ('{"question": "Is it?"}', "line 1: answer is None"),
    "nothing": ("\n\n", "has no question"),
    "no image": ('{"image": "gone.jpg", "question": "Is it?", "answer": "yes"}', "1 of 1 images are missing, e.g. "),
}


@pytest.mark.parametrize("name", ["no answer", "no image"])
def test_a_bad_file_is_refused_before_anything_is_built(name, tmp_path):
    text, message = BAD[name]
    (tmp_path / "bad.jsonl").write_text(text)
    done = run(*words_of(tmp_path / "out", tmp_path / "bad.jsonl", 1.0))
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_other_mistakes_are_refused(deployed, questions, tmp_path):
    out, _ = deployed

    def refused(words: list) -> str:
        with pytest.raises(UserError) as refusal:
            deploy(parser().parse_args([str(word) for word in words[1:]]))
        return str(refusal.value)

    assert "--accept is -1; percentage points" in refused(words_of(out, questions, -1))
    assert "precision 'int3' is not available" in refused(words_of(out, questions, 1, "int3"))
    words = words_of(out, questions, 1)
    words[words.index(DEMO)] = GOLDEN / "v2_ldpnetv2_336" / "ckpt_safetensors"
    assert f"{out} holds bundles of another model" in refused(words)
    (tmp_path / "mine.txt").write_text("mine")
    assert "holds something else than a deployment" in refused(words_of(tmp_path, questions, 1))
    words = words_of(tmp_path / "new", questions, 1)
    words[words.index(DEMO)] = tmp_path / "nowhere"
    assert "build_engines refused: its message is above" in refused(words)
    assert not (tmp_path / "new").exists()


def test_a_damaged_bundle_is_built_again(deployed, tmp_path):
    reference, _ = candidates_of(TARGETS["host"], None)
    copy = shutil.copytree(deployed[0] / "fp32", tmp_path / "fp32")
    assert is_built(copy, reference, "host")
    assert not is_built(copy, reference, "snapdragon-cpu") and not is_built(tmp_path / "none", reference, "host")
    assert not is_built(copy, candidates_of(TARGETS["host"], ["int8"])[1][0], "host")
    graph = max(copy.iterdir(), key=lambda path: path.stat().st_size)
    graph.write_bytes(graph.read_bytes()[:-1])
    assert not is_built(copy, reference, "host")


def test_candidates_come_with_the_fewest_bits_first():
    reference, found = candidates_of(TARGETS["host"], None)
    assert (reference.name, [one.name for one in found]) == ("fp32", ["default", "int4", "int8", "fp16", "fp32"])
    _, found = candidates_of(TARGETS["host"], ["int4,int8", "vision=fp32,decoder=int4"])
    assert [one.folder for one in found] == ["int4", "int8", "vision-fp32-decoder-int4"]
    assert found[2].precisions == {"vision": "fp32", "decoder": "int4"}
    _, found = candidates_of(TARGETS["host"], ["int8", "vision=int8,decoder=int8"])
    assert len(found) == 1  # the same in other words


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.backend != "ort"])
def test_another_device_is_told_what_to_run_there(name):
    there = "runtime/choose.py" if TARGETS[name].backend == "tensorrt" else "runtime/answer_times.py"
    with pytest.raises(UserError, match="are those of its device") as refusal:
        refuse_elsewhere(TARGETS[name])
    assert f"python export/build_engines.py --model DIR --target {name} --precision" in str(refusal.value)
    assert f"python {there} --engine DIR" in str(refusal.value)


def test_the_phones_target_is_for_arm(monkeypatch):
    refuse_elsewhere(TARGETS["host"])
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    refuse_elsewhere(TARGETS["snapdragon-cpu"])
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    with pytest.raises(UserError, match="snapdragon-cpu are those of its device"):
        refuse_elsewhere(TARGETS["snapdragon-cpu"])


def figures(name: str, loss: float, answer_ms: float) -> Measured:
    times = dict(ttft_ms=answer_ms / 2, token_ms=1.0, answer_ms=answer_ms, ratio=answer_ms / 100)
    times |= dict(ratio_low=answer_ms / 100 - 0.05, ratio_high=answer_ms / 100 + 0.05)
    return Measured(name, 10.0, 24, 80 - loss, loss, loss - 1, loss + 1, 90.0, **times)


MEASURED = [figures("fp32", 0, 100), figures("fp16", 0, 120), figures("int8", 0.5, 60), figures("int4", 2, 40)]


@pytest.mark.parametrize("accept, chosen", [(0, "fp32"), (0.5, "int8"), (2.0, "int4"), (1.99, "int8")])
def test_the_quickest_within_the_loss_is_chosen(accept, chosen):
    outcome = Outcome(MEASURED, ["odd"], [one.name for one in MEASURED], accept, 32)
    assert outcome.chosen.name == chosen and outcome.reason().startswith(f"Chosen: {chosen}, ")
    lines = outcome.table().splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["int4", "int8", "fp32", "fp16", "odd"]
    assert [line.split("|")[1].strip() for line in lines if "chosen" in line] == [chosen]
    may_be_worse = accept < {one.name: one.high for one in MEASURED}[chosen]
    assert outcome.reason().endswith("more questions would tell more.") == may_be_worse


def test_times_of_the_same_round_decide():
    """A slow round touched the median of the one and not of the other."""
    lucky = replace(figures("int8", 0, 60), answer_ms=40.0)
    outcome = Outcome([figures("fp32", 0, 100), lucky, figures("int4", 0, 57)], [], ["int8", "int4"], 1, 32)
    assert outcome.chosen.name == "int4" and outcome.reason().endswith(" Not clearly slower: int8.")


def test_answers_that_are_all_alike_do_not_rule_out_a_loss():
    alike = replace(figures("int8", 0, 60), low=0, high=0)
    outcome = Outcome([figures("fp32", 0, 100), alike], [], ["int8"], 1, 32)
    assert outcome.reason().endswith("leaves room for a loss of 12.5 points.")  # 3 of 24


def test_where_nothing_is_chosen_the_reason_says_what_would_be():
    reference, coarse = figures("fp32", 0, 100), figures("int4", 0.1 + 0.2, 40)
    refused = Outcome([reference, coarse], [], ["int4"], 0.2, 32)  # the reference was not asked for
    assert refused.chosen is None and refused.reason().endswith("it is within --accept 0.3.")
    assert Outcome([reference, coarse], [], ["int4"], 0.3, 32).chosen == coarse
    assert " reference |" in refused.table() and " loses too much |" in refused.table()
    assert Outcome([reference], ["int4"], ["int4"], 9, 32).reason() == "None: no candidate could be built."
