"""vision_pretrain.py by its command line: what it leaves, resuming, broken pictures, what is refused."""

import json
import random
import shutil

import pytest
import torch
from safetensors.torch import load_file

from mobilevlm.checkpoint.config import VisionConfig
from mobilevlm.presets import PRESETS
from mobilevlm.train.demo import conversations
from mobilevlm.train.demo.world.draw import draw_scene
from mobilevlm.train.demo.world.scenes import sample_scene
from tests.conftest import GOLDEN, ROOT, run

COMMAND = ROOT / "train" / "vision_pretrain.py"


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """The command line for a few steps on a dozen scenes, one of whose pictures is broken."""
    root = tmp_path_factory.mktemp("captions")
    rows = []
    for number in range(12):
        rng = random.Random(number)
        scene = sample_scene(rng)
        regions = []
        draw_scene(scene, rng, 64, regions).save(root / f"{number}.png")
        caption = conversations.caption_row(scene, f"{number}.png", rng)
        rows.append({"id": f"scene-{number}", "regions": regions} | caption)
    (root / "3.png").write_bytes(b"no picture")
    (root / "captions.json").write_text(json.dumps(rows))
    steps = ("--max-steps", 4, "--save-steps", 2, "--save-total-limit", 2, "--warmup-steps", 1, "--logging-steps", 1)
    size = ("--global-batch-size", 6, "--per-device-train-batch-size", 6, "--dataloader-num-workers", 0)
    files = ("--data", root / "captions.json", "--images", root, "--tokenizer", GOLDEN / "_common" / "tokenizer_small")
    return (COMMAND, "--recipe", "demo_tower", "--size", "mobilevlm_v2_demo", *files, *steps, *size)


@pytest.fixture(scope="module")
def trained(words, tmp_path_factory):
    out = tmp_path_factory.mktemp("tower") / "out"
    done = run(*words, "--out", out)
    assert done.returncode == 0, done.stderr
    return out, done


def test_it_leaves_a_tower_and_says_how_it_went(trained):
    out, done = trained
    preset = PRESETS["mobilevlm_v2_demo"].vision
    read = VisionConfig.from_files(
        json.loads((out / "config.json").read_text()), json.loads((out / "preprocessor_config.json").read_text())
    )
    assert (read.hidden_size, read.num_hidden_layers, read.image_size) == (
        256,
        7,
        144,
    ) and read.image_mean == preset.image_mean
    log = json.loads((out / "trainer_state.json").read_text())["log_history"]
    losses = [entry for entry in log if "loss" in entry]
    assert len(losses) == 4 and losses[-1]["region_loss"] < losses[0]["region_loss"]
    assert "4 steps" in done.stdout and "1 rows replaced" in done.stdout
    assert "row 3 (id scene-3) is replaced" in done.stderr


def test_a_killed_run_resumes_to_the_same_tower(trained, words, tmp_path):
    """What a kill leaves behind is the checkpoints so far; from the first of them the end is the same, bit for bit."""
    out, _ = trained
    again = tmp_path / "out"
    again.mkdir()
    shutil.copy(out / "run.json", again)
    shutil.copytree(out / "checkpoint-2", again / "checkpoint-2")
    done = run(*words, "--out", again)
    assert done.returncode == 0 and "resuming from" in done.stdout
    first, second = load_file(out / "model.safetensors"), load_file(again / "model.safetensors")
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--per-device-train-batch-size", 3), "use --global-batch-size 3, or more processes"),
        (("--recipe", "v2_stage1"), "python train/finetune.py"),
        (("--data", "no.json"), "no.json does not exist"),
        (("--tokenizer", "/no"), "tokenizer.model is missing"),
    ],
)
def test_refusals(words, tmp_path, options, message):
    done = run(*words, "--out", tmp_path / "out", *options)
    assert done.returncode == 2 and message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
