"""The demo's whole story by its one command, at a thousandth of its size: every stage, the model, its card."""

import json
from dataclasses import replace

import pytest

from mobilevlm.checkpoint.checkpoint import open_checkpoint
from mobilevlm.errors import UserError
from mobilevlm.presets import PRESETS
from mobilevlm.train.demo.stages import STAGES
from mobilevlm.train.demo.train_demo import own_work
from mobilevlm.train.demo.version import generator
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
    assert accuracy["wide"].keys() == accuracy["without_picture"].keys() > accuracy["accuracy"].keys()
    for kind, value in accuracy["wide"].items():
        usual, none = accuracy["accuracy"].get(kind, "-"), accuracy["without_picture"][kind]
        assert f"| {kind} | {usual} | {value} | {none} |" in card
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


def test_runs_of_another_generator_are_refused(tmp_path):
    """Their models know other pictures and questions; the folder is left as it is."""
    work = tmp_path / "work"
    own_work(work)
    own_work(work)
    note = work / "generator.txt"
    assert note.read_text() == f"{generator()}\n"
    note.write_text("0123456789abcdef\n")
    with pytest.raises(UserError) as refused:
        own_work(work)
    for said in ("0123456789abcdef", generator(), f"rm -r {work}", "--work DIR"):
        assert said in str(refused.value)
    assert note.read_text() == "0123456789abcdef\n"


def test_runs_that_tell_no_generator_are_refused(tmp_path):
    """As those from before `generator.txt` are; a folder with nothing of ours in it is taken."""
    (tmp_path / "elsewhere").mkdir()
    own_work(tmp_path)
    (tmp_path / "generator.txt").unlink()
    (tmp_path / "stage1").mkdir()
    with pytest.raises(UserError, match="left no generator.txt"):
        own_work(tmp_path)
