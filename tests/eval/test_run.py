"""eval/run.py by its command line, with the demo model: both engines, kills, shards, broken pictures, refusals."""

import json
import random
import shutil
import subprocess
import sys
import time

import pytest

from mobilevlm.datasets import DATA_SETS
from mobilevlm.eval.answers import WHOLE, read_answers
from mobilevlm.eval.tasks import TASKS
from tests.conftest import DEMO, ROOT, build, run

RUN, COMPARE = ROOT / "eval" / "run.py", ROOT / "eval" / "compare.py"
QUESTIONS = 12
BENCHMARKS = [item for item in DATA_SETS if item.name.startswith("benchmark/")]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The six benchmarks in small, from scenes."""
    out = tmp_path_factory.mktemp("data") / "demo"
    done = run(ROOT / "train/demo/make_benchmarks.py", "--out", out, "--questions", QUESTIONS)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    out = tmp_path_factory.mktemp("bundle") / "demo-host"
    done = build("--model", DEMO, out=out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def by_engine(data, bundle, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "engine"
    done = run(RUN, "--engine", bundle, "--data", data, "--out", out)
    assert done.returncode == 0, done.stderr
    return out, done


@pytest.fixture(scope="module")
def by_model(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "model"
    done = run(RUN, "--model", DEMO, "--data", data / "benchmark_data", "--out", out, "--batch-size", 8)
    assert done.returncode == 0, done.stderr
    return out, done


def texts(out) -> dict[str, list[str]]:
    return {name: [answer.text for answer in read_answers(out / name / WHOLE)] for name in TASKS}


def test_pytorch_in_batches_and_the_engine_answer_alike(by_model, by_engine):
    (model, _), (engine, _) = by_model, by_engine
    assert texts(model) == texts(engine)
    scores = [json.loads((out / "scores.json").read_text())["scores"] for out in (model, engine)]
    assert scores[0] == scores[1] and [score["task"] for score in scores[0]] == list(TASKS)


def test_the_model_does_far_better_than_chance(by_engine):
    """It is a model that answers: well above one in two for yes and no, above one in ten for colours and shapes."""
    out, done = by_engine
    found = {score["task"]: score for score in json.loads((out / "scores.json").read_text())["scores"]}
    assert found["pope"]["metrics"]["accuracy"] >= 60 and found["gqa"]["metrics"]["accuracy"] >= 30
    for name, score in found.items():
        value = score["metrics"][score["headline"]]
        assert f"| {TASKS[name].title} | {score['headline']} | {score['n']} | {value:.1f} |" in done.stdout
        assert score["failed"] == 0


def test_a_score_is_that_of_the_answers(data, by_engine):
    """GQA and SQA recounted from the files, by hand."""
    out, _ = by_engine
    scores = {score["task"]: score["metrics"] for score in json.loads((out / "scores.json").read_text())["scores"]}
    truth = json.loads((data / "benchmark_data/gqa/testdev_balanced_questions.json").read_text())
    answers = [json.loads(line) for line in (out / "gqa" / WHOLE).read_text().splitlines()]
    right = [row["text"].rstrip(".").lower() == truth[str(row["question_id"])]["answer"] for row in answers]
    assert scores["gqa"]["accuracy"] == pytest.approx(100 * sum(right) / len(right))
    problems = json.loads((data / "benchmark_data/sqa/problems.json").read_text())
    answers = [json.loads(line) for line in (out / "sqa" / WHOLE).read_text().splitlines()]
    marks = [row["text"] == "ABCDEFGH"[problems[str(row["question_id"])]["answer"]] for row in answers]
    pictured = [mark for mark, row in zip(marks, answers, strict=True) if "<image>" in row["prompt"]]
    assert scores["sqa"]["accuracy"] == pytest.approx(100 * sum(marks) / len(marks))
    assert scores["sqa"]["image_accuracy"] == pytest.approx(100 * sum(pictured) / len(pictured))


@pytest.mark.parametrize("seed", range(3))
def test_killed_anywhere_and_run_again_it_is_the_same(data, bundle, by_engine, tmp_path, seed):
    """kill -9 at random moments, several times; files and scores are those of an unbroken run, to the byte."""
    words = [sys.executable, RUN, "--engine", bundle, "--data", data, "--out", tmp_path / "out", "--tasks", "gqa,pope"]
    draw = random.Random(seed)
    for _ in range(3):
        process = subprocess.Popen(list(map(str, words)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(draw.uniform(0.3, 2.5))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    done = run(*words[1:])
    assert done.returncode == 0, done.stderr
    for name in ("gqa", "pope"):
        for file in (by_engine[0] / name).iterdir():
            assert (tmp_path / "out" / name / file.name).read_bytes() == file.read_bytes()


def test_a_finished_run_asks_nothing_again(data, bundle, by_engine):
    """Also when the stages cannot be opened any more."""
    out, first = by_engine
    before = {path: path.stat().st_mtime_ns for path in out.rglob(WHOLE)}
    start = time.monotonic()
    again = run(RUN, "--engine", bundle, "--data", data, "--out", out)
    assert again.returncode == 0 and again.stdout == first.stdout and time.monotonic() - start < 60
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob(WHOLE)}


def test_shards_make_the_same_files(data, bundle, by_engine, tmp_path):
    out, told = tmp_path / "out", []
    for shard in (2, 3, 1):
        done = run(
            *(RUN, "--engine", bundle, "--data", data, "--out", out, "--tasks", "mme,mmbench"),
            *("--num-shards", 3, "--shard", shard),
        )
        assert done.returncode == 0, done.stderr
        told.append(done.stdout)
    assert "MME: shard 2 is done; to come: 1, 3" in told[0] and "| MME |" not in told[1] and "| MME |" in told[2]
    for name in ("mme", "mmbench"):
        assert (out / name / WHOLE).read_bytes() == (by_engine[0] / name / WHOLE).read_bytes()


def test_a_broken_picture_is_a_wrong_answer(data, bundle, tmp_path):
    """One that is damaged and one that is gone: recorded, said, counted wrong even where silence would count as yes."""
    copy = shutil.copytree(data, tmp_path / "data")
    rows = [json.loads(line) for line in (copy / "benchmark_data/pope/llava_pope_test.jsonl").read_text().splitlines()]
    names = list(dict.fromkeys(row["image"] for row in rows))
    pictures = copy / "benchmark_data/pope/val2014"
    (pictures / names[0]).write_bytes(b"no picture")
    (pictures / names[1]).unlink()
    done = run(RUN, "--engine", bundle, "--data", copy, "--out", tmp_path / "out", "--tasks", "pope")
    assert done.returncode == 0, done.stderr
    broken = {row["question_id"] for row in rows if row["image"] in names[:2]}
    answers = [json.loads(line) for line in (tmp_path / "out/pope" / WHOLE).read_text().splitlines()]
    assert {row["question_id"] for row in answers if row["metadata"]} == broken
    assert all(
        row["text"] == "" and names[0] in row["metadata"]["error"] or names[1] in row["metadata"]["error"]
        for row in answers
        if row["metadata"]
    )
    (score,) = json.loads((tmp_path / "out/scores.json").read_text())["scores"]
    assert score["failed"] == len(broken) and f"({len(broken)} could not be asked)" in done.stdout
    assert f"1 of {len(names)} pictures" not in done.stderr and names[1] in done.stderr and "COCO" in done.stderr
    most = 100 * (len(rows) - len(broken)) / len(rows)
    assert score["metrics"]["accuracy"] <= most + 1e-9


def test_no_pictures_at_all_stop_the_run(data, bundle, tmp_path):
    copy = shutil.copytree(data, tmp_path / "data")
    shutil.rmtree(copy / "benchmark_data/gqa/images")
    done = run(RUN, "--engine", bundle, "--data", copy, "--out", tmp_path / "out", "--tasks", "gqa")
    assert done.returncode == 2 and "pictures of GQA are missing" in done.stderr and "cs.stanford.edu" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("item", BENCHMARKS, ids=lambda item: item.name)
def test_a_missing_file_is_named_with_its_source(item, data, tmp_path):
    for file, source in ((item.annotations, item.source), *item.also.items()):
        copy = shutil.copytree(data, tmp_path / file.replace("/", "-"))
        (copy / file).unlink()
        name = item.name.split("/")[1]
        words = ("--data", copy, "--out", tmp_path / "out" / name, "--tasks", name, "--limit", 1)
        done = run(RUN, "--model", DEMO, *words)
        assert done.returncode == 2 and f"{copy / file} is missing" in done.stderr and source in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--tasks", "gqa,vqa"), "there is no vqa; use all or gqa,sqa"),
        (("--tasks", ","), "there is no name"),
        (("--limit", 0), "--limit is 0"),
        (("--shard", 2), "--shard is 2; with --num-shards 1"),
        (("--batch-size", 4), "--batch-size is for --model"),
        (("--dtype", "fp16"), "--dtype is for --model"),
        (("--data", "/no"), "is missing"),
    ],
)
def test_refusals(bundle, data, tmp_path, words, message):
    done = run(RUN, "--engine", bundle, "--data", data, "--out", tmp_path / "out", *words)
    assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_another_engines_answers_are_not_mixed_in(data, bundle, by_engine, by_model, tmp_path):
    done = run(RUN, "--model", DEMO, "--data", data, "--out", by_engine[0])
    assert done.returncode == 2 and "holds the answers of another run" in done.stderr
    (tmp_path / "letter.txt").write_text("dear")
    done = run(RUN, "--engine", bundle, "--data", data, "--out", tmp_path)
    assert done.returncode == 2 and "holds something else" in done.stderr


def test_compare_says_what_differs(by_model, by_engine, bundle, tmp_path):
    """Two runs alike, and one in which some answers were changed by hand."""
    changed = shutil.copytree(by_engine[0], tmp_path / "changed")
    path = changed / "gqa" / WHOLE
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows[:3]:
        row["text"] = "mauve"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out"
    done = run(COMPARE, by_model[0], by_engine[0], changed, "--out", out)
    assert done.returncode == 0, done.stderr
    found = {(d["task"], d["run"]): d for d in json.loads((out / "compare.json").read_text())}
    same, other = found["gqa", "engine"], found["gqa", "changed"]
    assert (same["agreement"], same["difference"], same["low"], same["high"]) == (1, 0, 0, 0)
    assert other["agreement"] == 1 - 3 / len(rows) and other["low"] <= other["difference"] <= 0
    assert other["difference"] == pytest.approx(other["score"] - same["score"])
    assert (out / "compare.png").stat().st_size > 5000 and (out / "compare.md").read_text().strip() in done.stdout
    report = (bundle / "report.md").read_text()
    assert report.count("## Accuracy") == 1 and "| GQA | changed |" in report and report.startswith("# demo for host")
    again = run(
        RUN,
        "--engine",
        bundle,
        "--data",
        json.loads((out.parent / "changed/run.json").read_text())["data"],
        "--out",
        by_engine[0],
    )
    assert again.returncode == 0, again.stderr


def test_compare_refuses_what_is_no_pair(by_engine, tmp_path):
    short = shutil.copytree(by_engine[0], tmp_path / "short")
    path = short / "gqa" / WHOLE
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    for words, message in (
        ((by_engine[0],), "two runs at least"),
        ((by_engine[0], short), "not to the same questions"),
        ((by_engine[0], tmp_path), "run.json is missing"),
    ):
        done = run(COMPARE, *words, "--out", tmp_path / "out")
        assert done.returncode == 2 and message in done.stderr
