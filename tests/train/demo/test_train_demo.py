"""The demo's whole story by its one command, at a thousandth of its size: every stage, the model, its card."""

import json
from dataclasses import replace

import pytest

from mobilevlm.checkpoint import open_checkpoint
from mobilevlm.presets import PRESETS
from mobilevlm.train.demo.stages import STAGES
from tests.conftest import ROOT, run

COMMAND = ROOT / "train" / "demo" / "train_demo.py"


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    root = tmp_path_factory.mktemp("story")
    done = run(COMMAND, "--work", root / "work", "--out", root / "model", "--scale", "0.001")
    assert done.returncode == 0, done.stderr
    return root, done


def test_every_stage_ends_in_a_model_that_opens(story):
    root, _ = story
    checkpoint = open_checkpoint(root / "model")
    preset = PRESETS["mobilevlm_v2_demo"]
    assert checkpoint.config.to_published() == preset.to_published()
    # The tower's own file names the edge that the preset leaves to be that of the picture.
    assert checkpoint.config.vision == replace(preset.vision, shortest_edge=preset.vision.image_size)
    assert sum(path.stat().st_size for path in (root / "model").rglob("*")) < 30e6
    assert not list((root / "model").rglob("*.bin")) and not (root / "model/vision_tower/model.safetensors").exists()


def test_the_card_has_the_figures_of_the_runs(story):
    root, _ = story
    card = (root / "model" / "README.md").read_text()
    accuracy = json.loads((root / "model" / "accuracy.json").read_text())
    for name, title in STAGES.items():
        summary = json.loads((root / "work" / name / "train_summary.json").read_text())
        assert f"| {title} (`demo_{name}`) | {summary['steps']} |" in card
    for kind, value in accuracy["accuracy"].items():
        assert f"| {kind} | {value} | {accuracy['without_picture'][kind]} |" in card
    assert (root / "model" / "curves.png").stat().st_size > 5000


def test_a_second_call_trains_nothing_again(story):
    root, _ = story
    before = {name: (root / "work" / name / "model.safetensors").stat().st_mtime for name in STAGES}
    again = run(COMMAND, "--work", root / "work", "--out", root / "model", "--scale", "0.001")
    assert again.returncode == 0 and again.stdout.count("is finished") == len(STAGES)
    assert before == {name: (root / "work" / name / "model.safetensors").stat().st_mtime for name in STAGES}


def test_other_sizes_are_refused(story):
    root, _ = story
    done = run(COMMAND, "--work", root / "work", "--out", root / "model", "--scale", "0.002")
    assert done.returncode == 2 and "demo data of other sizes" in done.stderr
    done = run(COMMAND, "--work", root / "work", "--out", root / "model", "--scale", "3")
    assert done.returncode == 2 and "--scale is 3.0" in done.stderr
