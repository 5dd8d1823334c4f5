"""prepare_data.py on small trees of real files: whole ones pass, and of each damage exactly the damaged is named."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from PIL import Image

from mobilevlm.datasets import DATA_SETS, GROUPS
from mobilevlm.mmbench_table import COLUMNS
from tests.conftest import ROOT, run

SCRIPT = ROOT / "train" / "prepare_data.py"
TURNS = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A square."}]
TEXT_ROW = {"id": "text", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}


def write(path: Path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3), "red").save(path.with_suffix(".png"))
    path.with_suffix(".png").rename(path)


def fill_training(root: Path, data_set) -> None:
    """Two rows for each image folder, and a text-only one where the template takes it."""
    rows = []
    for home in data_set.folders:
        for number in range(2):
            image = "/".join(filter(None, [home, f"{number}.jpg"]))
            picture(root / data_set.images / image)
            rows.append({"id": f"{home}-{number}", "image": image, "conversations": TURNS})
    write(root / data_set.annotations, rows + [TEXT_ROW] * (data_set.form == "v1"))


def table_row(index: int, question: str, image: str) -> str:
    """A line of MMBench's table; `image` is base64, or another row's index."""
    cells = {"index": index, "question": question, "A": "x", "B": "y", "answer": "A", "image": image}
    return "\t".join(str(cells.get(name, "")) for name in COLUMNS) + "\n"


def fill_benchmark(root: Path, data_set) -> None:
    if data_set.form == "table":
        picture(root / "cell.png")
        cell = base64.b64encode((root / "cell.png").read_bytes()).decode()
        rows = [table_row(7, '"What\nis it?"', cell), table_row(1_000_007, "What is it?", "7")]  # as releases have it
        write(root / data_set.annotations, "\ufeff" + "\t".join(COLUMNS) + "\n" + "".join(rows))
    elif data_set.form == "question":
        picture(root / data_set.images / "a" / "1.jpg")
        lines = [json.dumps({"question_id": n, "image": "a/1.jpg", "text": "What?"}) for n in range(3)]
        write(root / data_set.annotations, "\n".join(lines) + "\n")
    else:
        picture(root / data_set.images / "5" / "image.png")
        write(root / data_set.annotations, [TEXT_ROW, {"id": "5", "image": "5/image.png", "conversations": TURNS}])
    for name in data_set.also:
        write(root / name, '{"a": 1}\n{"a": 2}\n')


@pytest.fixture
def tree(tmp_path) -> Path:
    """The whole published tree, small."""
    root = tmp_path / "data"
    for data_set in DATA_SETS:
        (fill_benchmark if data_set.name.startswith("benchmark/") else fill_training)(root, data_set)
    return root


def prepare(root: Path, *groups: str, options=()):
    return run(SCRIPT, "--data", root, "--for", *groups, *options)


def own(tmp_path: Path, rows, *options):
    write(tmp_path / "my.json", rows)
    return run(SCRIPT, "--json", tmp_path / "my.json", "--images", tmp_path, *options)


@pytest.mark.parametrize("options", [(), ("--full", "--workers", "2")])
def test_a_whole_tree_passes(tree, tmp_path, options):
    report = tmp_path / "report.json"
    done = prepare(tree, "all", options=(*options, "--report", report))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == [item.name for item in DATA_SETS]
    assert "v1_stage2: ok, 13 rows, 12 images" in lines
    assert "benchmark/mmbench: ok, 2 rows, 2 images" in lines
    assert all(item["ready"] and item["faults"] == [] for item in json.loads(report.read_text()))


def test_groups_cover_the_table():
    assert set(GROUPS) == {"v2_stage1", "v2_stage2", "v1_stage1", "v1_stage2", "benchmark", "all"}
    assert sum(len(group) for name, group in GROUPS.items() if name != "all") == len(GROUPS["all"])


def test_nothing_there(tmp_path):
    """Every file and folder of what is asked for, and nothing of what is not."""
    done = prepare(tmp_path, "v1_stage2")
    assert done.returncode == 2
    data_set = GROUPS["v1_stage2"][0]
    wanted = [tmp_path / data_set.annotations, *(tmp_path / data_set.images / home for home in data_set.folders)]
    lines = done.stdout.splitlines()
    assert lines[0] == "v1_stage2: 1 file missing, 6 folders missing (0 rows, 0 images)"
    assert [line.split()[0].rstrip("/") for line in lines[1:]] == list(map(str, wanted))
    assert "Get it from LLaVA-Instruct-150K (huggingface.co/datasets/liuhaotian/LLaVA-Instruct-150K)" in lines[1]
    assert "1 of 1 data sets not ready: v1_stage2" in done.stderr


def test_missing_annotations_only(tree):
    (tree / "pretrain_data/blip_laion_cc_sbu_558k.json").unlink()
    done = prepare(tree, "v1_stage1", "v2_stage1")
    assert done.returncode == 2
    assert [line for line in done.stdout.splitlines() if line.startswith("  ")] == [
        f"  {tree}/pretrain_data/blip_laion_cc_sbu_558k.json is missing. "
        "Get it from LLaVA-Pretrain (huggingface.co/datasets/liuhaotian/LLaVA-Pretrain)"
    ]
    assert "v2_stage1: ok, 6 rows, 6 images" in done.stdout
    assert "1 of 2 data sets not ready: v1_stage1;" in done.stderr


def test_missing_folder(tree):
    for image in (tree / "finetune_data/ocr_vqa/images").iterdir():
        image.unlink()
    (tree / "finetune_data/ocr_vqa/images").rmdir()
    done = prepare(tree, "v1_stage2")
    assert done.returncode == 2
    assert done.stdout.splitlines() == [
        "v1_stage2: 2 images missing (13 rows, 12 images)",
        f"  {tree}/finetune_data/ocr_vqa/images: no such folder; 2 images are named in it. "
        "Get them from OCR-VQA (ocr-vqa.github.io), every file saved as .jpg",
        "    row 4 (id ocr_vqa/images-0): ocr_vqa/images/0.jpg",
        "    row 5 (id ocr_vqa/images-1): ocr_vqa/images/1.jpg",
    ]


def test_missing_images_are_counted_and_listed(tree, tmp_path):
    """Seven of ten, one named twice: the first five are shown, the report has all; a near miss is pointed out."""
    rows = [{"id": f"r{n}", "image": f"gqa/images/n{n % 10}.jpg", "conversations": TURNS} for n in range(11)]
    for n in (1, 3, 5):
        picture(tree / f"finetune_data/gqa/images/n{n}.jpg")
    picture(tree / "finetune_data/gqa/images/n0.png")
    (tree / "finetune_data/gqa/images/n2.jpg").symlink_to("nowhere.jpg")
    (tree / "finetune_data/gqa/images/n4.jpg").mkdir()
    write(tree / "finetune_data/llava_v1_5_mix665k.json", rows)
    report = tmp_path / "report.json"
    done = prepare(tree, "v1_stage2", options=("--report", report))
    assert done.returncode == 2
    lines = done.stdout.splitlines()
    assert lines[0] == "v1_stage2: 7 images missing (11 rows, 10 images)"
    assert f"{tree}/finetune_data/gqa/images: 7 of the 10 images are missing. Get them from GQA" in lines[1]
    assert lines[2] == "    row 0 (id r0): gqa/images/n0.jpg: there is n0.png"
    assert lines[3:] == [f"    row {n} (id r{n}): gqa/images/n{n}.jpg" for n in (2, 4, 6, 7)] + ["    and 2 more"]
    (item,) = json.loads(report.read_text())
    assert (item["ready"], item["rows"], item["images"]) == (False, 11, 10)
    assert [fault["row"] for fault in item["faults"]] == [0, 2, 4, 6, 7, 8, 9]
    assert item["faults"][-1] == {
        "kind": "missing image",
        "what": "gqa/images/n9.jpg",
        "where_from": "GQA (cs.stanford.edu/people/dorarad/gqa)",
        "row": 9,
        "row_id": "r9",
        "folder": f"{tree}/finetune_data/gqa/images",
    }


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: text[: len(text) // 2], "ends in the middle of row"),
        (lambda text: text[:-1], "ends after row 1 without the closing ']'"),
        (lambda text: "", "is no JSON list: it is empty"),
        (lambda text: "[]", "has no rows"),
        (lambda text: "<!doctype html>", "is no JSON list: it starts with '<'"),
        (lambda text: "version https://git-lfs", "is no JSON list: it starts with 'v'"),
        (lambda text: text.replace('"image"', "image", 1), "is no JSON at row 0: Expecting property name"),
        (lambda text: text + "]", "goes on after the end of the list (2 rows)"),
        (lambda text: text.replace('}, {"id"', '} {"id"'), "is no JSON after row 0: '{' instead of ',' or ']'"),
        (lambda text: text[:-1] + ",]", "is no JSON at row 2: Expecting value"),
    ],
)
def test_spoiled_json(tree, spoil, message):
    file = tree / "pretrain_data/blip_laion_cc_sbu_558k.json"
    file.write_text(spoil(file.read_text()))
    done = prepare(tree, "v1_stage1")
    assert done.returncode == 2
    assert "v1_stage1: 1 file unreadable" in done.stdout.splitlines()[0]
    assert f"{file} {message}" in done.stdout
    assert "Get it from LLaVA-Pretrain" in done.stdout


def test_no_text_at_all(tree):
    file = tree / "pretrain_data/blip_laion_cc_sbu_558k.json"
    file.write_bytes(b"\x1f\x8b\x08\xff" * 100)
    assert f"{file} is no UTF-8 text" in prepare(tree, "v1_stage1").stdout


def test_a_broken_row_is_named(tmp_path):
    picture(tmp_path / "a.jpg")
    good = {"id": "good", "image": "a.jpg", "conversations": TURNS}
    done = own(tmp_path, [good, {"id": "odd", "conversations": [TURNS[0], TURNS[0]]}, good])
    assert done.returncode == 2
    assert done.stdout.splitlines() == [
        "my.json: 1 row broken (3 rows, 1 images)",
        "  rows that cannot be used:",
        "    row 1 (id odd): turn 2 is from human again: turns have to alternate",
    ]


def test_a_file_of_ones_own(tmp_path):
    """Several images, text only, images in sub-folders and by absolute path; captions where they are asked for."""
    for name in ("a.jpg", "sub/b.jpg", "c.jpg"):
        picture(tmp_path / name)
    two = {
        "id": 1,
        "image": ["a.jpg", "sub/b.jpg"],
        "conversations": [TURNS[0], {"from": "gpt", "value": "<image> too"}],
    }
    absolute = {"id": 2, "image": str(tmp_path / "c.jpg"), "conversations": TURNS}
    done = own(tmp_path, [TEXT_ROW, two, absolute], "--full")
    assert (done.returncode, done.stdout) == (0, "my.json: ok, 3 rows, 3 images\n"), done.stderr
    assert "row 0 (id text): has turns" not in done.stdout
    done = own(tmp_path, [TEXT_ROW, absolute], "--template", "plain")
    assert "row 0 (id text): has no image, which the plain template needs" in done.stdout


def test_full_finds_pictures_that_do_not_open(tree):
    assert prepare(tree, "v1_stage1", "benchmark").returncode == 0
    (tree / "pretrain_data/images/1.jpg").write_bytes(b"no picture")
    table = tree / "benchmark_data/mmbench/mmbench_dev_en_20231003.tsv"
    table.write_text(table.read_text() + table_row(8, "What?", "AAAA"))
    assert prepare(tree, "v1_stage1", "benchmark").returncode == 0
    done = prepare(tree, "v1_stage1", "benchmark", options=("--full",))
    assert done.returncode == 2
    lines = done.stdout.splitlines()
    image = f"{tree}/pretrain_data/images/1.jpg"
    assert lines[0] == "v1_stage1: 1 image broken (2 rows, 2 images)"
    assert "1 of the 2 images cannot be opened. Get them from images.zip of LLaVA-Pretrain" in lines[1]
    remedy = "Convert what was meant to JPEG or PNG, or give another file."
    assert lines[2] == f"    row 1 (id -1): 1.jpg: {image} is no image but text ('no picture'). {remedy}"
    assert "    row 2 (id 8): its picture: The given bytes is no image" in done.stdout
    assert "2 of 7 data sets not ready: v1_stage1, benchmark/mmbench" in done.stderr


def test_a_table_without_a_picture(tree):
    """Also without --full: rows whose picture is no base64, or that of a row which is not there."""
    table = tree / "benchmark_data/mmbench/mmbench_dev_en_20231003.tsv"
    table.write_text(table.read_text() + table_row(8, "What?", "") + table_row(9, "What?", "12"))
    done = prepare(tree, "benchmark")
    assert done.returncode == 2
    assert "    row 2 (id 8): its image is no base64" in done.stdout
    assert "    row 3 (id 9): its image is that of row 12, which is not there" in done.stdout


def test_benchmarks_need_their_other_files(tree):
    (tree / "benchmark_data/gqa/testdev_balanced_questions.json").write_text('{"1": {')
    (tree / "benchmark_data/pope/coco/coco_pope_random.json").unlink()
    (tree / "benchmark_data/mmbench/mmbench_dev_en_20231003.tsv").write_text("index\tquestion\n1\tWhat?\n")
    done = prepare(tree, "benchmark")
    assert f"{tree}/benchmark_data/gqa/testdev_balanced_questions.json ends in the middle of row 0" in done.stdout
    assert f"{tree}/benchmark_data/pope/coco/coco_pope_random.json is missing. Get it from POPE" in done.stdout
    assert "mmbench_dev_en_20231003.tsv has no column hint, A, B, C, D, answer, category, image" in done.stdout
    assert "3 of 6 data sets not ready" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--for", "all", "--images", "x"), "--images and --template go with --json"),
        (("--json", "x.json", "--data", "x"), "--data goes with --for"),
        (("--for", "all", "--workers", "0"), "--workers is 0"),
        (("--for", "all", "--report", "/nowhere/x.json"), "there is no directory /nowhere"),
        (("--for", "v3"), "invalid choice"),
        ((), "one of the arguments --for --json is required"),
        (("--json", "nothing.json"), "1 of 1 data sets not ready: nothing.json"),
    ],
)
def test_refusals(options, message):
    done = run(SCRIPT, *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_of_the_users_changes(tree):
    before = {path: path.stat().st_mtime_ns for path in tree.rglob("*")}
    prepare(tree, "all", options=("--full",))
    assert {path: path.stat().st_mtime_ns for path in tree.rglob("*")} == before
