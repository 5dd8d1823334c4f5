"""eval/run.py by its command line, with the demo model: both engines, kills, shards, broken pictures, refusals."""

import json
import random
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest

from mobilevlm.datasets import DATA_SETS
from mobilevlm.engines.bundle import BundleError
from mobilevlm.eval import run as evaluation
from mobilevlm.eval.answers import WHOLE, read_answers
from mobilevlm.eval.engine import BundleEngine, PyTorchEngine
from mobilevlm.eval.tasks import TASKS
from mobilevlm.train.demo.benchmarks.pope import write_pope
from tests.conftest import DEMO, ROOT, run

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
def bundle(demo_fp32):
    return demo_fp32


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


def evaluate(*words) -> None:
    """The command in this process, where a test can take something away from it."""
    evaluation.evaluate(evaluation.parser().parse_args(list(map(str, words))))


def scores(out) -> dict[str, dict]:
    return {score["task"]: score for score in json.loads((out / "scores.json").read_text())["scores"]}


def texts(out) -> dict[str, list[str]]:
    return {name: [answer.text for answer in read_answers(out / name / WHOLE)] for name in TASKS}


def test_pytorch_in_batches_and_the_engine_answer_alike(by_model, by_engine):
    (model, _), (engine, _) = by_model, by_engine
    assert texts(model) == texts(engine)
    assert scores(model) == scores(engine) and list(scores(model)) == list(TASKS)


def test_the_table_has_each_score_and_what_it_is_over(data, by_engine):
    out, done = by_engine
    for name, score in scores(out).items():
        value = score["metrics"][score["headline"]]
        assert f"| {TASKS[name].title} | {score['headline']} | {score['n']} | {value:.1f} |" in done.stdout
        assert score["failed"] == 0 and score["answers"] == len(TASKS[name].questions(data))
    pictured = [question for question in TASKS["sqa"].questions(data) if question.image]
    assert scores(out)["sqa"]["n"] == len(pictured) < scores(out)["sqa"]["answers"]
    assert scores(out)["mmbench"]["n"] == QUESTIONS < scores(out)["mmbench"]["answers"]


def test_the_model_does_far_better_than_chance(bundle, tmp_path):
    """Half of POPE's answers are yes: of 96, a coin has 68 right once in 30,000 runs, and always yes has 48."""
    write_pope(tmp_path / "data/benchmark_data/pope", 96)
    evaluate("--engine", bundle, "--data", tmp_path / "data", "--out", tmp_path / "out", "--tasks", "pope")
    score = scores(tmp_path / "out")["pope"]
    assert score["n"] == 96 and score["metrics"]["accuracy"] >= 70


def test_a_score_is_that_of_the_answers(data, by_engine):
    """GQA and SQA recounted from the files, by hand."""
    out, _ = by_engine
    found = {name: score["metrics"] for name, score in scores(out).items()}
    truth = json.loads((data / "benchmark_data/gqa/testdev_balanced_questions.json").read_text())
    answers = [json.loads(line) for line in (out / "gqa" / WHOLE).read_text().splitlines()]
    right = [row["text"].rstrip(".").lower() == truth[str(row["question_id"])]["answer"] for row in answers]
    assert found["gqa"]["accuracy"] == pytest.approx(100 * sum(right) / len(right))
    problems = json.loads((data / "benchmark_data/sqa/problems.json").read_text())
    answers = [json.loads(line) for line in (out / "sqa" / WHOLE).read_text().splitlines()]
    marks = [row["text"] == "ABCDEFGH"[problems[str(row["question_id"])]["answer"]] for row in answers]
    pictured = [mark for mark, row in zip(marks, answers, strict=True) if "<image>" in row["prompt"]]
    assert found["sqa"]["accuracy"] == pytest.approx(100 * sum(marks) / len(marks))
    assert found["sqa"]["image_accuracy"] == pytest.approx(100 * sum(pictured) / len(pictured))


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


def test_a_finished_run_asks_nothing_again(data, bundle, by_engine, tmp_path, monkeypatch, capsys):
    """Its stages cannot be opened any more. With a question left that ends the run, and is no wrong answer."""

    def refuse(*_, **__):
        raise BundleError("the stages cannot be opened")

    monkeypatch.setattr("mobilevlm.runtime.open_decoder.open_runner", refuse)
    out, first = by_engine
    before = {path: path.stat().st_mtime_ns for path in out.rglob(WHOLE)}
    evaluate("--engine", bundle, "--data", data, "--out", out)
    assert capsys.readouterr().out == first.stdout
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob(WHOLE)}
    answers = shutil.copytree(out, tmp_path / "left") / "pope" / WHOLE
    left = b"".join(answers.read_bytes().splitlines(keepends=True)[:-1])
    answers.write_bytes(left)
    with pytest.raises(BundleError, match="cannot be opened"):
        evaluate("--engine", bundle, "--data", data, "--out", tmp_path / "left")
    assert answers.read_bytes() == left


def test_a_path_typed_otherwise_is_the_same_run(bundle, monkeypatch):
    """And a hub id stays what it is."""
    engine, model = BundleEngine(str(bundle), "v1").identity, PyTorchEngine(str(DEMO), "v1").identity
    monkeypatch.chdir(bundle.parent)
    assert BundleEngine(f"../{bundle.parent.name}/{bundle.name}/", "v1").identity == engine
    monkeypatch.chdir(DEMO.parent)
    assert PyTorchEngine(f"{DEMO.name}/", "v1").identity == model
    known = SimpleNamespace(config=SimpleNamespace(conv_mode="v1"), base_dir=None)
    monkeypatch.setattr("mobilevlm.checkpoint.checkpoint.open_checkpoint", lambda *_: known)
    assert PyTorchEngine("mtgv/MobileVLM_V2-1.7B", "v1").identity["model"] == "mtgv/MobileVLM_V2-1.7B"


def test_conv_mode_is_how_it_is_asked(data, bundle, by_engine, tmp_path):
    words = ("--engine", bundle, "--data", data, "--tasks", "gqa", "--conv-mode", "plain")
    evaluate(*words, "--out", tmp_path / "out")
    said = [answer.text for answer in read_answers(tmp_path / "out/gqa" / WHOLE)]
    assert len(said) == QUESTIONS and said != texts(by_engine[0])["gqa"]


@pytest.mark.parametrize(("name", "dtype"), [("fp32", "float32"), ("bf16", "bfloat16")])
def test_dtype_is_the_models(data, tmp_path, monkeypatch, name, dtype):
    seen = []

    def answer_batch(model, asked, **options):
        seen.append(str(model.dtype))
        return ["red"] * len(asked)

    monkeypatch.setattr("mobilevlm.model.batch.answer_batch", answer_batch)
    words = ("--model", DEMO, "--data", data, "--tasks", "gqa", "--limit", 1, "--dtype", name)
    evaluate(*words, "--out", tmp_path / "out")
    assert seen == [f"torch.{dtype}"] and json.loads((tmp_path / "out/run.json").read_text())["dtype"] == name


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
    broken = {row["question_id"]: row["image"] for row in rows if row["image"] in names[:2]}
    answers = [json.loads(line) for line in (tmp_path / "out/pope" / WHOLE).read_text().splitlines()]
    failed = {row["question_id"]: row for row in answers if row["metadata"]}
    assert set(failed) == set(broken)
    for name, row in failed.items():
        assert row["text"] == "" and str(pictures / broken[name]) in row["metadata"]["error"]
    score = scores(tmp_path / "out")["pope"]
    assert score["failed"] == len(broken) and f"| {score['n']} ({len(broken)} could not be asked) |" in done.stdout
    assert done.stderr.splitlines()[0] == (
        f"1 of {len(names)} images of POPE are missing, e.g. {pictures / names[1]}; they count as wrong (they come "
        "from COCO val2014 (cocodataset.org))"
    )
    most = 100 * (len(rows) - len(broken)) / len(rows)
    assert score["metrics"]["accuracy"] <= most + 1e-9


def test_no_pictures_at_all_stop_the_run(data, bundle, tmp_path):
    copy = shutil.copytree(data, tmp_path / "data")
    shutil.rmtree(copy / "benchmark_data/gqa/images")
    done = run(RUN, "--engine", bundle, "--data", copy, "--out", tmp_path / "out", "--tasks", "gqa")
    assert done.returncode == 2 and "images of GQA are missing" in done.stderr and "cs.stanford.edu" in done.stderr
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
