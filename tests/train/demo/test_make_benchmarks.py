"""make_benchmarks.py: the official files are all there, and what they say is true of the scenes, found anew here."""

from __future__ import annotations

import base64
import csv
import io
import json
import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobilevlm.datasets import GROUPS
from mobilevlm.errors import UserError
from mobilevlm.train.data_check import check
from mobilevlm.train.demo import make_benchmarks as command
from mobilevlm.train.demo.benchmarks.rows import sound
from mobilevlm.train.demo.make_benchmarks import WRITERS, make_benchmarks
from mobilevlm.train.demo.questions.question import Question
from mobilevlm.train.demo.world.scenes import COLORS, SHAPES, Scene, Text, Thing, sample_scene
from tests.conftest import ROOT, run
from tests.train.demo.reader import holds, scene_told

SCRIPT = ROOT / "train" / "demo" / "make_benchmarks.py"
SMALL, LARGE = 10, 90
SUFFIX = "\nAnswer the question using a single word or phrase."
csv.field_size_limit(1 << 25)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    """All of it, small, with pictures."""
    root = tmp_path_factory.mktemp("drawn")
    make_benchmarks(root, SMALL)
    return root


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> Path:
    """The folders of the benchmarks, larger, without pictures: for what is asked and answered."""
    root = tmp_path_factory.mktemp("told")
    with pytest.MonkeyPatch.context() as patch:
        for name, write in WRITERS.items():
            patch.setattr(f"mobilevlm.train.demo.benchmarks.{name}.save_image", lambda *_: None)
            write(root / name, LARGE)
    return root


def scene_of(task: str, number: int | str) -> Scene:
    return sample_scene(random.Random(f"bench-{task}-{int(number)}"))


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def table(path: Path) -> list[dict]:
    return list(csv.DictReader(io.StringIO(path.read_text(), newline=""), delimiter="\t"))


def asked(row: dict) -> str:
    assert row["text"].endswith(SUFFIX)
    return row["text"].removesuffix(SUFFIX)


def test_every_official_file_is_there(drawn):
    """By the check of prepare_data.py, with every picture opened."""
    found = {
        item.name.removeprefix("benchmark/"): check(item, drawn, full=True, workers=1) for item in GROUPS["benchmark"]
    }
    assert {name: item.faults for name, item in found.items()} == dict.fromkeys(WRITERS, [])
    rows = {name: item.rows for name, item in found.items()}
    assert rows.pop("mmbench") in range(2 * SMALL, 4 * SMALL + 1)
    assert rows == {"gqa": SMALL, "sqa": SMALL, "textvqa": SMALL, "mme": 10, "pope": 12}
    assert {name: item.images for name, item in found.items() if name != "mmbench"} == {
        "gqa": SMALL,
        "sqa": SMALL - SMALL // 5,
        "textvqa": SMALL,
        "mme": 5,
        "pope": 2,
    }


def test_the_pictures_are_of_the_scenes(drawn):
    """A thing's colour is found where the scene has the thing, in nearly all; grain and blur hide a few."""
    data, seen = drawn / "benchmark_data", []
    pictures = [("gqa", path.stem[1:], path) for path in (data / "gqa/images").iterdir()]
    pictures += [("pope", path.stem[-12:], path) for path in (data / "pope/val2014").iterdir()]
    pictures += [("sqa", path.parent.name, path) for path in (data / "sqa/images/test").rglob("*.png")]
    pictures += [("textvqa", str(int(path.stem, 16)), path) for path in (data / "textvqa/train_images").iterdir()]
    pictures += [("mme", path.stem, path) for path in (data / "mme/images").rglob("*.png")]
    for row in table(data / "mmbench/mmbench_dev_en_20231003.tsv")[:SMALL]:
        pictures.append(("mmbench", row["index"], io.BytesIO(base64.b64decode(row["image"]))))
    for task, number, file in pictures:
        scene = scene_of(task, number)
        with Image.open(file) as picture:
            assert abs(picture.width / picture.height - scene.width / scene.height) < 0.02
            pixels = np.asarray(picture.convert("HSV"), float) * [360 / 255, 100 / 255, 100 / 255]
        ys, xs = np.mgrid[0 : len(pixels), 0 : len(pixels[0])] / min(pixels.shape[:2])
        for thing in scene.things:
            near = pixels[np.hypot(xs - thing.x, ys - thing.y) < thing.radius]
            (hue, far), *rest = COLORS[thing.color]
            inside = (near[:, 0] - hue + 4) % 360 <= far - hue + 8
            for values, (low, high) in zip(near.T[1:], rest, strict=True):
                inside &= (values >= low - 8) & (values <= high + 8)
            seen.append(inside.mean() > 0.15)
    assert len(seen) > 40 and np.mean(seen) > 0.9


def test_gqa(told):
    rows = lines(told / "gqa" / "llava_gqa_testdev_balanced.jsonl")
    answers = json.loads((told / "gqa" / "testdev_balanced_questions.json").read_text())
    assert [row["question_id"] for row in rows] == list(answers) and len(rows) == LARGE
    for row in rows:
        item = answers[row["question_id"]]
        assert (row["image"], row["category"]) == (item["imageId"] + ".jpg", "default")
        assert asked(row) == item["question"] and item["isBalanced"] is True
        assert item["answer"] == item["answer"].lower()
        assert holds(scene_of("gqa", item["imageId"][1:]), item["question"], item["answer"]), item
    given = Counter(item["answer"] for item in answers.values())
    assert abs(given["yes"] - given["no"]) <= 1 and given["yes"] > LARGE / 10
    assert {item["types"]["semantic"] for item in answers.values()} >= {"color", "shape", "count", "place", "size"}
    assert {item["answer"] for item in answers.values() if item["answer"].isdigit()} <= set("12345")


def test_pope(told):
    rows = lines(told / "pope" / "llava_pope_test.jsonl")
    assert len({row["question_id"] for row in rows}) == len(rows) == LARGE
    scenes = {row["image"]: scene_of("pope", row["image"][-16:-4]) for row in rows}
    common = Counter(pair for scene in scenes.values() for pair in {(t.color, t.shape) for t in scene.things})
    for category in ("adversarial", "popular", "random"):
        labels = lines(told / "pope" / "coco" / f"coco_pope_{category}.json")
        mine = [row for row in rows if row["category"] == category]
        assert [(row["image"], asked(row)) for row in mine] == [(item["image"], item["text"]) for item in labels]
        assert Counter(item["label"] for item in labels) == {"yes": LARGE // 6, "no": LARGE // 6}
        for item in labels:
            color, shape = re.fullmatch(r"Is there an? (\w+) (\w+) in the image\?", item["text"]).groups()
            things = scenes[item["image"]].things
            assert color in COLORS and shape in SHAPES
            assert item["label"] == ("yes" if any((t.color, t.shape) == (color, shape) for t in things) else "no")
            if item["label"] == "no":
                squarish = {"square", "rectangle", "diamond"}
                assert not any(t.color == color and {t.shape, shape} <= squarish for t in things), item
                there = {(t.color, t.shape) for t in things}
                if category == "adversarial":
                    assert any(color == t.color or shape == t.shape for t in things)
                if category == "popular":
                    commoner = [pair for pair in common if common[pair] > common[color, shape]]
                    assert len(set(commoner) - there) < 16


def test_mme(told):
    """The answers lie where the official conversion looks for them, in both layouts of the release."""
    rows, layouts, answers = lines(told / "mme" / "llava_mme.jsonl"), set(), {}
    assert Counter(row["category"] for row in rows) == dict.fromkeys(
        ("existence", "count", "position", "color", "OCR"), LARGE // 5
    )
    for row in rows:
        category, name = row["question_id"].split("/")
        home = told / "mme" / "images" / category
        split = (home / "questions_answers_YN").is_dir()
        layouts.add(split)
        assert row["category"] == category
        assert row["image"] == (f"{category}/images/{name}" if split else row["question_id"])
        text = (home / "questions_answers_YN" if split else home) / name.replace(".png", ".txt")
        truth = dict(line.split("\t") for line in text.read_text().splitlines())
        assert sorted(truth.values()) == ["No", "Yes"]
        answer = truth[f"{asked(row)} Please answer yes or no."]
        assert holds(scene_of("mme", name[:-4]), asked(row), answer.lower()), (row, answer)
        answers.setdefault(row["question_id"], []).append(answer)
    assert layouts == {True, False}
    assert all(sorted(pair) == ["No", "Yes"] for pair in answers.values()) and len(answers) == LARGE // 2


def test_sqa(told):
    rows = json.loads((told / "sqa" / "llava_test_CQM-A.json").read_text())
    problems = json.loads((told / "sqa" / "problems.json").read_text())
    assert json.loads((told / "sqa" / "pid_splits.json").read_text())["test"] == [row["id"] for row in rows]
    assert sum("image" not in row for row in rows) == LARGE // 5 and len(rows) == LARGE
    for row in rows:
        problem, (human, gpt) = problems[row["id"]], (turn["value"] for turn in row["conversations"])
        options = " ".join(f"({letter}) {option}" for letter, option in zip("ABCD", problem["choices"], strict=False))
        said = f"Context: {problem['hint'] or 'N/A'}\nQuestion: {problem['question']}\nOptions: {options}"
        assert human == ("<image>\n" + said if "image" in row else said)
        assert gpt == f"The answer is {'ABCD'[problem['answer']]}." and problem["split"] == "test"
        scene = scene_of("sqa", row["id"])
        if "image" in row:
            assert row["image"] == f"{row['id']}/{problem['image']}" and not problem["hint"]
            assert scene.width == scene.height  # else the original's crop takes part of it away
        for known in [scene] if "image" in row else [scene, scene_told(problem["hint"])]:
            right = [holds(known, problem["question"], option.lower()) for option in problem["choices"]]
            assert right == [n == problem["answer"] for n in range(len(right))], (problem, known)


def test_mmbench(told):
    """Of every question the right option alone holds; the copies are all rotations of the first row."""
    rows = table(told / "mmbench" / "mmbench_dev_en_20231003.tsv")
    assert list(rows[0]) == "index question hint A B C D answer category image source l2-category comment split".split()
    copies: dict[int, dict[int, dict]] = {}
    for row in rows:
        copies.setdefault(int(row["index"]) % 1_000_000, {})[int(row["index"]) // 1_000_000] = row
    assert len(copies) == LARGE and sum(map(len, copies.values())) == len(rows)
    lengths = set()
    for number, turns in copies.items():
        options = [turns[0][letter] for letter in "ABCD" if turns[0][letter]]
        lengths.add(len(options))
        assert sorted(turns) == list(range(len(options))) and len(set(options)) == len(options)
        right = turns[0][turns[0]["answer"]]
        assert [holds(scene_of("mmbench", number), turns[0]["question"], option.lower()) for option in options] == [
            option == right for option in options
        ], turns[0]
        parts = set(right.split())  # what is at the top left is on the left, too
        assert not any(parts < set(option.split()) or parts > set(option.split()) for option in options), turns[0]
        for turn, row in turns.items():
            assert [row[letter] for letter in "ABCD" if row[letter]] == options[turn:] + options[:turn]
            assert row[row["answer"]] == right
            same = ("question", "hint", "category", "l2-category", "source", "split")
            assert all(row[name] == turns[0][name] for name in same)
    assert lengths == {2, 4}
    assert len({row["category"] for row in rows}) > 3


def test_textvqa(told):
    rows = lines(told / "textvqa" / "llava_textvqa_val_v051_ocr.jsonl")
    items = json.loads((told / "textvqa" / "TextVQA_0.5.1_val.json").read_text())["data"]
    answers = {(item["image_id"], item["question"].lower()): item["answers"] for item in items}
    assert len(rows) == len(answers) == LARGE
    hints = Counter()
    for row in rows:
        question, *hint = asked(row).split("\n")
        scene = scene_of("textvqa", int(row["question_id"], 16))
        (written,) = [text.text for text in scene.texts] + [thing.text for thing in scene.things if thing.text]
        assert answers[row["question_id"], question.lower()] == [written] * 10
        assert row["image"] == row["question_id"] + ".jpg"
        assert holds(scene, question, written.lower())
        if hint:
            (tokens,) = [line.removeprefix("Reference OCR token: ").split(", ") for line in hint]
            hints["empty" if tokens == [""] else len(tokens)] += 1
            assert tokens == [""] or written in tokens and len({token.lower() for token in tokens}) == len(tokens)
    assert hints == {1: LARGE * 2 // 5, "empty": LARGE // 5, 2: LARGE // 5}


def test_the_same_command_writes_the_same_bytes(drawn, tmp_path):
    """In another process, whose sets and dictionaries of strings are in another order."""
    done = run(SCRIPT, "--out", tmp_path / "again", "--questions", SMALL, env={"PYTHONHASHSEED": "7"})
    assert done.returncode == 0, done.stderr
    first, again = (
        {p.relative_to(r): p.read_bytes() for p in r.rglob("*") if p.is_file()} for r in (drawn, tmp_path / "again")
    )
    assert first == again and len(first) > 5 * SMALL


def test_what_is_there_is_kept(drawn, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in drawn.rglob("*")}
    make_benchmarks(drawn, SMALL)
    with pytest.raises(UserError, match='"questions": 10.*wanted.*"questions": 11'):
        make_benchmarks(drawn, SMALL + 1)
    assert {path: path.stat().st_mtime_ns for path in drawn.rglob("*")} == before
    (tmp_path / "benchmark_data" / "gqa").mkdir(parents=True)
    with pytest.raises(UserError, match="no sizes.json"):
        make_benchmarks(tmp_path, SMALL)
    assert [path.name for path in tmp_path.rglob("*")] == ["benchmark_data", "gqa"]


def test_a_killed_run_looks_unfinished(tmp_path, monkeypatch):
    def write(folder: Path, count: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{count}.txt").touch()

    def stop(folder: Path, count: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "WRITERS", {"gqa": write, "pope": stop})
    with pytest.raises(KeyboardInterrupt):
        make_benchmarks(tmp_path, 3)
    assert not (tmp_path / "benchmark_data").exists() and list(tmp_path.rglob("3.txt"))
    monkeypatch.setattr(command, "WRITERS", {"gqa": write, "pope": write})
    make_benchmarks(tmp_path, 4)
    assert {path.name for path in tmp_path.iterdir()} == {"benchmark_data"}
    assert not list(tmp_path.rglob("3.txt")) and len(list(tmp_path.rglob("4.txt"))) == 2


@pytest.mark.parametrize("count", [0, 5001])
def test_impossible_numbers_are_refused(tmp_path, count):
    done = run(SCRIPT, "--out", tmp_path, "--questions", count)
    assert (done.returncode, list(tmp_path.iterdir())) == (2, [])
    assert f"--questions is {count}" in done.stderr and "Traceback" not in done.stderr


CIRCLE = Question("color", "What color is the circle?", "red", "The circle is red.", ("blue", "green", "pink"))
ODD = {
    "greeting": Question("color", "Hi! What color is the circle?", "red", "The circle is red."),
    "small letters": Question("color", "what color is the circle?", "red", "The circle is red."),
    "no mark": Question("color", "What color is the circle", "red", "The circle is red."),
    "another name": Question("size", "Is the circle large or small?", "big", "The circle is big."),
    "squarish": Question("existence", "Is there a square?", "No", "No, there is no square.", ("Yes",)),
    "no shape": Question("existence", "Is there anything black?", "No", "No, there is no black shape.", ("Yes",)),
    "too many": Question("count", "How many stars are there?", "6", "There are 6 stars."),
    "none": Question("count", "How many stars are there?", "0", "There are no stars."),
}


@pytest.mark.parametrize("name", ODD)
def test_what_could_be_disputed_is_not_asked(name):
    scene = Scene(
        1, 1, "white", "plain", [Thing("circle", "red", 0.2, 0.2, 0.2), Thing("rectangle", "red", 0.7, 0.7, 0.1)]
    )
    assert sound(scene, CIRCLE) and not sound(scene, ODD[name])
    scene.texts.append(Text("STOP", "blue", 0.5, 0.5, 0.2))
    assert not sound(scene, CIRCLE)
