"""run.sh as a person calls it, in a clone of its own: what it refuses, what it would run, and a small training."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from mobilevlm.datasets import GROUPS
from mobilevlm.train import finetune
from tests.conftest import GOLDEN, ROOT

LANGUAGE_MODEL, VISION_MODEL = GOLDEN / "lora_v1" / "base", GOLDEN / "lora_v1" / "openai_clip_tiny"
ARCHS = ("mobilevlm1.7b", "mobilevlm3b", "mobilevlm_v2_1.7b", "mobilevlm_v2_3b")
SMALL = "--max-steps 1 --global-batch-size 1 --per-device-train-batch-size 1".split()
SMALL += "--dataloader-num-workers 0 --no-bf16 --no-gradient-checkpointing".split()


@pytest.fixture
def clone(tmp_path) -> Path:
    """What run.sh needs, with this Python's packages as its environment, which counts as installed."""
    root = tmp_path / "clone"
    for name in ("mobilevlm", "engines", "runtime", "eval", "train"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "demo"))
    for name in ("run.sh", "pyproject.toml", "constraints.txt"):
        shutil.copyfile(ROOT / name, root / name)
    (root / ".venv").mkdir()
    for item in Path(sys.prefix).iterdir():
        if item.name != "installed":
            (root / ".venv" / item.name).symlink_to(item)
    sums = "cat pyproject.toml constraints.txt | cksum > .venv/installed"
    subprocess.run(["bash", "-c", sums], cwd=root, check=True)
    return root


def call(clone: Path, *words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = ["bash", clone / "run.sh", *words]
    return subprocess.run(list(map(str, command)), cwd=cwd or clone, capture_output=True, text=True, timeout=300)


def fill(clone: Path, data_set, skip: int = 0) -> None:
    """Four rows of a training set with their images, but for the first `skip`."""
    home, images = next(iter(data_set.folders)), clone / "data" / data_set.images
    (images / home).mkdir(parents=True, exist_ok=True)
    names = [f"{home}/{number}.png".lstrip("/") for number in range(4)]
    for number, name in enumerate(names[skip:]):
        Image.new("RGB", (20, 30), (60 * number, 80, 120)).save(images / name)
    turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A flat picture."}]
    rows = [{"id": str(n), "image": name, "conversations": turns} for n, name in enumerate(names)]
    (clone / "data" / data_set.annotations).write_text(json.dumps(rows))


def stage_1_done(out: Path, arch: str) -> Path:
    """What stage 2 looks for before it starts."""
    pretrained = out / ("mobilevlm_v2-1.pretrain" if "_v2_" in arch else "mobilevlm-1.pretrain")
    pretrained.mkdir(parents=True)
    (pretrained / ("config.json" if "_v2_" in arch else "mm_projector.bin")).touch()
    return pretrained


@pytest.mark.parametrize("words", [[], ["mobilevlm_v2_7b"], ["mobilevlm_v2_7b", "pretrain", "a", "b"], ["nonsense"]])
def test_usage_names_every_verb(clone, words):
    done = call(clone, *words)
    assert done.returncode == 2
    for name in ("demo", "test --slow", *ARCHS, "pretrain-finetune-test", "finetune.lora", "[OUTPUT_DIR]"):
        assert name in done.stdout
    assert "set -e" not in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train"], "TASK is 'train'; it can be pretrain-finetune-test, pretrain, finetune, finetune.lora or test"),
        (["pretrain finetune"], "TASK is 'pretrain finetune'"),
        ([], "TASK is ''"),
        (["pretrain"], "pretrain LANGUAGE_MODEL VISION_MODEL [OUTPUT_DIR]"),
        (["pretrain", LANGUAGE_MODEL], "pretrain LANGUAGE_MODEL VISION_MODEL [OUTPUT_DIR]"),
        (["pretrain", "/no/llm", VISION_MODEL], "LANGUAGE_MODEL: there is no directory /no/llm"),
        (["pretrain", LANGUAGE_MODEL, "/no/tower"], "VISION_MODEL: there is no directory /no/tower"),
        (
            ["finetune", LANGUAGE_MODEL, VISION_MODEL],
            "OUTPUT_DIR is needed: finetune starts from what earlier steps left",
        ),
        (["finetune.lora", LANGUAGE_MODEL, VISION_MODEL, "--max-steps", "1"], "OUTPUT_DIR is needed"),
        (["test"], "usage: bash run.sh mobilevlm1.7b test LANGUAGE_MODEL VISION_MODEL"),
        (["test", LANGUAGE_MODEL, VISION_MODEL], "OUTPUT_DIR is needed"),
        (["test", LANGUAGE_MODEL, VISION_MODEL, "out"], "holds no model: run finetune first"),
        (["test", "/no/checkpoint"], "CHECKPOINT_DIR: there is no directory /no/checkpoint"),
        (
            ["finetune", LANGUAGE_MODEL, VISION_MODEL, "out"],
            "mobilevlm-1.pretrain/mm_projector.bin is missing: run pre",
        ),
    ],
)
def test_refusals(clone, words, message):
    """One line, status 2, nothing written."""
    before = sorted(clone.iterdir())
    done = call(clone, "mobilevlm1.7b", *words)
    *told, last = done.stderr.splitlines()
    assert (done.returncode, told) == (2, []), done.stderr
    assert last.startswith("run.sh: ") and message in last
    assert sorted(clone.iterdir()) == before


def test_evaluating_says_which_file_is_missing(clone):
    """Of a checkpoint from anywhere, before it is loaded."""
    done = call(clone, "mobilevlm1.7b", "test", LANGUAGE_MODEL)
    assert done.returncode == 2
    assert "llava_gqa_testdev_balanced.jsonl is missing" in done.stderr and "benchmark_data.zip" in done.stderr


def test_where_the_results_go(clone, tmp_path):
    """Beside a checkpoint, under its own name; of a hub id where eval/run.py puts them, never in a folder mtgv/."""
    (clone / "eval" / "run.py").write_text("import sys\nprint(*sys.argv[1:])\n")
    out = tmp_path / "my out"
    checkpoint = out / "mobilevlm-2.finetune"
    checkpoint.mkdir(parents=True)
    (checkpoint / "config.json").touch()
    said = f"--model {checkpoint} --tasks all --data data --out {checkpoint}-evaluation\n"
    for words in ((f"{checkpoint.name}/",), ("../my out/mobilevlm-2.finetune",)):
        assert call(clone, "mobilevlm1.7b", "test", *words, cwd=out).stdout == said
    assert call(clone, "mobilevlm1.7b", "test", LANGUAGE_MODEL, VISION_MODEL, out).stdout == said
    done = call(clone, "mobilevlm_v2_1.7b", "test", "mtgv/MobileVLM_V2-1.7B")
    assert done.stdout == "--model mtgv/MobileVLM_V2-1.7B --tasks all --data data\n"


def test_v2_stage_2_needs_stage_1(clone):
    done = call(clone, "mobilevlm_v2_3b", "finetune", LANGUAGE_MODEL, VISION_MODEL, clone / "out")
    assert done.returncode == 2
    assert f"{clone}/out/mobilevlm_v2-1.pretrain holds no model: run pretrain first" in done.stderr


@pytest.mark.parametrize(("arch", "task"), [("mobilevlm1.7b", "pretrain"), ("mobilevlm_v2_3b", "finetune.lora")])
def test_missing_data_stops_before_training(clone, arch, task):
    stage_1_done(clone / "out", arch)
    done = call(clone, arch, task, LANGUAGE_MODEL, VISION_MODEL, clone / "out")
    data_set = GROUPS[("v2" if "_v2_" in arch else "v1") + ("_stage1" if task == "pretrain" else "_stage2")][0]
    assert done.returncode == 2
    assert f"data/{data_set.annotations} is missing. Get it from {data_set.source}" in done.stdout
    assert f"1 of 1 data sets not ready: {data_set.name}" in done.stderr
    assert "nothing was trained" not in done.stderr  # there is no row to train on anyway
    assert not list(clone.rglob("*.log"))


EXPECTED = {  # arch, task: recipe, what training starts from, output
    ("mobilevlm1.7b", "pretrain"): ("v1_stage1", "LLM", "mobilevlm-1.pretrain"),
    ("mobilevlm1.7b", "finetune"): ("v1_stage2_1.7b", "LLM", "mobilevlm-2.finetune"),
    ("mobilevlm3b", "finetune"): ("v1_stage2_3b", "LLM", "mobilevlm-2.finetune"),
    ("mobilevlm1.7b", "finetune.lora"): ("v1_lora_1.7b", "LLM", "mobilevlm-2.finetune-lora"),
    ("mobilevlm3b", "finetune.lora"): ("v1_lora_3b", "LLM", "mobilevlm-2.finetune-lora"),
    ("mobilevlm_v2_1.7b", "pretrain"): ("v2_stage1", "LLM", "mobilevlm_v2-1.pretrain"),
    ("mobilevlm_v2_1.7b", "finetune"): ("v2_stage2", "stage 1", "mobilevlm_v2-2.finetune"),
    ("mobilevlm_v2_3b", "finetune"): ("v2_stage2", "stage 1", "mobilevlm_v2-2.finetune"),
    ("mobilevlm_v2_1.7b", "finetune.lora"): ("v2_lora", "stage 1", "mobilevlm_v2-2.finetune-lora"),
}


@pytest.mark.parametrize(("arch", "task"), EXPECTED)
def test_the_command_line_of_each_verb(clone, tmp_path, arch, task):
    """With an image missing run.sh stops and shows the command it would have run; paths start where the person is."""
    recipe, start, out = EXPECTED[arch, task]
    version = "v2" if "_v2_" in arch else "v1"
    data_set = GROUPS[version + ("_stage1" if task == "pretrain" else "_stage2")][0]
    fill(clone, data_set, skip=1)
    pretrained = stage_1_done(tmp_path / "my out", arch)
    (tmp_path / "llm").symlink_to(LANGUAGE_MODEL)
    done = call(clone, arch, task, "llm", VISION_MODEL, "my out", "--max-steps", "10", cwd=tmp_path)
    assert done.returncode == 2
    assert "1 image missing (4 rows, 4 images)" in done.stdout
    shown = next(line for line in done.stderr.splitlines() if "nothing was trained" in line)
    words = shlex.split(shown.split(", run: ")[1])
    command = words[words.index("train/finetune.py") :]
    expected = ["train/finetune.py", "--recipe", recipe, "--model"]
    expected += [str(tmp_path / "llm") if start == "LLM" else str(pretrained)]
    if version == "v1" and task != "pretrain":
        expected += ["--projector", str(pretrained / "mm_projector.bin")]
    expected += ["--vision-tower", str(VISION_MODEL), "--data", f"data/{data_set.annotations}"]
    expected += ["--images", f"data/{data_set.images}", "--out", str(tmp_path / "my out" / out), "--max-steps", "10"]
    assert command == expected
    assert (ROOT / "train" / "recipes" / f"{recipe}.json").is_file()
    finetune.parser().parse_args(command[1:])


def test_models_may_be_on_the_hub(clone):
    fill(clone, GROUPS["v2_stage1"][0], skip=1)
    done = call(clone, "mobilevlm_v2_3b", "pretrain", "mtgv/MobileLLaMA-2.7B-Chat", "openai/clip", "out")
    assert "--model mtgv/MobileLLaMA-2.7B-Chat --vision-tower openai/clip" in done.stderr


def test_output_has_a_name_of_its_own(clone):
    """Without OUTPUT_DIR, options may follow at once."""
    fill(clone, GROUPS["v2_stage1"][0], skip=1)
    done = call(clone, "mobilevlm_v2_3b", "pretrain", LANGUAGE_MODEL, VISION_MODEL, "--max-steps", "1")
    assert f"-> {clone}/outputs/mobilevlm_v2_3b_20" in done.stderr
    assert done.stderr.rstrip().endswith("--max-steps 1")


def train(clone: Path, *words: str | Path) -> None:
    done = call(clone, *words, *SMALL)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_v1_from_a_language_model_to_a_merged_lora(clone):
    """The real thing with a tiny model: stage 1 leaves the projector, from which stage 2 and the LoRA start."""
    out = clone / "out"
    for name in ("v1_stage1", "v1_stage2"):
        fill(clone, GROUPS[name][0])
    train(clone, "mobilevlm1.7b", "pretrain", LANGUAGE_MODEL, VISION_MODEL, out)
    assert (out / "mobilevlm-1.pretrain" / "mm_projector.bin").is_file()
    assert (out / "mobilevlm-1.pretrain.log").stat().st_size > 0
    train(clone, "mobilevlm1.7b", "finetune.lora", LANGUAGE_MODEL, VISION_MODEL, out)
    assert (out / "mobilevlm-2.finetune-lora" / "non_lora_trainables.bin").is_file()
    assert json.loads((out / "mobilevlm-2.finetune" / "config.json").read_text())["mm_projector_type"] == "ldpnet"


def test_v2_both_stages(clone):
    out = clone / "out"
    for name in ("v2_stage1", "v2_stage2"):
        fill(clone, GROUPS[name][0])
    train(clone, "mobilevlm_v2_1.7b", "pretrain", LANGUAGE_MODEL, VISION_MODEL, out)
    train(clone, "mobilevlm_v2_1.7b", "finetune", LANGUAGE_MODEL, VISION_MODEL, out)
    assert json.loads((out / "mobilevlm_v2-2.finetune" / "config.json").read_text())["mm_projector_type"] == "ldpnetv2"
