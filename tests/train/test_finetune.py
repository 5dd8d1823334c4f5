"""finetune.py and merge_lora.py: the original's file layouts, its stages one after the other, and what is refused."""

import json
import shutil

import pytest
import torch

from mobilevlm import MobileVLM
from mobilevlm.checkpoint.tensors import open_directory, open_file
from mobilevlm.train.launch import SUMMARY_FILE
from tests.conftest import GOLDEN, ROOT, run
from tests.train.conftest import FINETUNE, LLM, PICTURES, TOWER, refusal, row, train_here

LAYOUTS = json.loads((GOLDEN / "_common" / "training_layouts.json").read_text())
LORA = ("--lora-r", 8, "--lora-alpha", 16)
# What differs from the original's config.json on purpose: who wrote it, and where the start lay.
UNTOLD = {"_name_or_path", "transformers_version"}
# What a later PEFT adds to adapter_config.json is not compared; what it renamed or fills in itself:
PEFT_DIFFERS = {"auto_mapping", "base_model_name_or_path", "layers_pattern", "target_modules"}


@pytest.fixture(scope="module")
def stages(data, tmp_path_factory):
    """Every layout the original writes, each stage from the one before."""
    root = tmp_path_factory.mktemp("stages")
    new = ("--model", LLM, "--vision-tower", TOWER)
    projector = ("--projector", root / "v1_stage1_projector_only" / "mm_projector.bin")
    train_here("v1_stage1", data["pictures"], root / "v1_stage1_projector_only", *new)
    train_here("v1_stage2_1.7b", data["mixed"], root / "v1_stage2_full", *new, *projector)
    train_here("v1_lora_1.7b", data["mixed"], root / "v1_stage2_lora", *new, *projector, *LORA)
    train_here("v2_stage1", data["pictures"], root / "v2_stage1_full", *new)
    start = ("--model", root / "v2_stage1_full")
    train_here("v2_stage2", data["mixed"], root / "v2_stage2_full", *start)
    train_here("v2_lora", data["mixed"], root / "v2_stage2_lora", *start, *LORA)
    return root


def shapes(tensors):
    return {name: list(tensors.entry(name).shape) for name in tensors}


@pytest.mark.parametrize("name", [name for name in LAYOUTS if "merged" not in name])
def test_layouts_are_the_originals(stages, name):
    golden, out = LAYOUTS[name], stages / name
    for file in golden:
        if file.endswith(".bin") and file not in ("pytorch_model.bin", "training_args.bin"):
            wanted = {key: shape for key, (shape, _) in golden[file].items()}
            assert shapes(open_file(out / file)) == wanted, file
    if "pytorch_model.bin" in golden:  # ours is model.safetensors
        assert shapes(open_directory(out)) == {key: shape for key, (shape, _) in golden["pytorch_model.bin"].items()}
        for file in ("tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json"):
            assert (out / file).is_file(), file
    assert (out / "trainer_state.json").is_file()


@pytest.mark.parametrize("name", [name for name in LAYOUTS if "merged" not in name])
def test_configurations_are_the_originals(stages, name):
    golden, ours = LAYOUTS[name]["config.json"], json.loads((stages / name / "config.json").read_text())
    assert set(golden) - set(ours) == UNTOLD
    differing = {key for key in set(golden) - UNTOLD if golden[key] != ours[key]}
    assert differing <= {"architectures", "mm_vision_tower"}  # a full path beside a projector or LoRA; always our class
    assert "openai_clip_tiny" in ours["mm_vision_tower"]
    if "adapter_config.json" in LAYOUTS[name]:
        golden, ours = (
            LAYOUTS[name]["adapter_config.json"],
            json.loads((stages / name / "adapter_config.json").read_text()),
        )
        assert {key: ours[key] for key in golden if key not in PEFT_DIFFERS} == {
            key: value for key, value in golden.items() if key not in PEFT_DIFFERS
        }
        assert sorted(ours["target_modules"]) == sorted(golden["target_modules"])


def test_a_checkpoint_is_whole_wherever_it_is_moved(stages, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("v1_stage2_full", "v2_stage2_full"):
        shutil.copytree(stages / name, tmp_path / name, ignore=shutil.ignore_patterns("checkpoint-*"))
        model = MobileVLM.from_pretrained(tmp_path / name)
        assert isinstance(model.chat("What?", PICTURES / "0.png", max_new_tokens=2), str)
    tower = tmp_path / "v2_stage2_full" / "openai_clip_tiny"
    assert sorted(path.name for path in tower.iterdir()) == ["config.json", "preprocessor_config.json"]


def test_the_tower_never_changes_and_the_rest_does(stages):
    before, after = open_directory(stages / "v2_stage1_full"), open_directory(stages / "v2_stage2_full")
    moved = {name for name in before if not torch.equal(before[name].float(), after[name].float())}
    assert moved == {name for name in before if "vision_tower" not in name}


@pytest.mark.parametrize(("lora", "base"), [("v1_stage2_lora", LLM), ("v2_stage2_lora", "v2_stage1_full")])
def test_a_trained_lora_merges(stages, tmp_path, lora, base):
    done = run(ROOT / "train" / "merge_lora.py", stages / base, stages / lora, tmp_path / "merged")
    assert done.returncode == 0, done.stderr
    golden = LAYOUTS["v1_merged" if "v1" in lora else "v2_merged"]["pytorch_model.bin"]
    merged = open_directory(tmp_path / "merged")
    assert shapes(merged) == {key: shape for key, (shape, _) in golden.items()}
    factors = open_file(stages / lora / "adapter_model.bin")
    layer = "model.layers.0.mlp.up_proj.weight"
    down, up = (factors[f"base_model.model.{layer}".replace("weight", f"lora_{part}.weight")] for part in "AB")
    wanted = open_directory(stages / base)[layer].float() + 2 * up @ down
    torch.testing.assert_close(merged[layer].float(), wanted, atol=1e-3, rtol=1e-3)


def test_merging_the_golden_lora(tmp_path):
    golden = GOLDEN / "lora_v1"
    done = run(ROOT / "train" / "merge_lora.py", golden / "base", golden / "lora", tmp_path / "merged")
    assert done.returncode == 0, done.stderr
    ours, theirs = open_directory(tmp_path / "merged"), open_directory(golden / "merged")
    assert set(ours) == set(theirs)
    for name in theirs:
        assert ours[name].dtype == theirs[name].dtype == torch.float16
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-3, rtol=1e-3)
    again = run(ROOT / "train" / "merge_lora.py", golden / "base", golden / "lora", tmp_path / "merged")
    assert (again.returncode, "not empty" in again.stderr) == (2, True)


def test_a_language_model_learns_without_vision(data, tmp_path):
    train_here("mobilellama_sft_1.4b", data["text"], tmp_path / "llm", "--model", LLM)
    config = json.loads((tmp_path / "llm" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert not torch.equal(open_directory(tmp_path / "llm")["lm_head.weight"], open_directory(LLM)["lm_head.weight"])


def test_broken_rows_are_counted_and_do_not_stop_the_run(tmp_path, capfd):
    rows = [row(0, "0.png"), row(1, "gone.png"), {"id": "odd"}, row(3, "1.png")]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    start = ("--model", LLM, "--vision-tower", TOWER, "--dataloader-num-workers", 2, "--num-train-epochs", 2)
    train_here("v2_stage2", tmp_path / "rows.json", tmp_path / "out", *start)
    out, err = capfd.readouterr()
    assert err.count("row 1 (id r1) is replaced") == err.count("row 2 (id odd) is replaced") == 1
    assert str(PICTURES / "gone.png") in err
    assert "2 rows replaced" in out
    summary = json.loads((tmp_path / "out" / SUMMARY_FILE).read_text())
    assert (summary["rows_replaced"], summary["samples"]) == (2, 8)


NEW = ("--model", LLM, "--vision-tower", TOWER)
REFUSALS = {
    "no data": ("v2_stage2", "nowhere.json", NEW, "--data nowhere.json does not exist"),
    "no images": ("v2_stage2", "mixed", (*NEW, "--images", "nowhere"), "--images nowhere does not exist"),
    "no tower": ("v2_stage2", "mixed", ("--model", LLM), "has no vision tower, which recipe v2_stage2 needs"),
    "tower recipe": ("clip_pretrain", "mixed", NEW, "vision_pretrain.py"),
    "vision and text": ("mobilellama_sft_1.4b", "text", NEW, "without vision"),
    "another projector": (
        "v2_stage2",
        "mixed",
        (*NEW, "--projector", GOLDEN / "lora_v1" / "lora" / "non_lora_trainables.bin"),
        "for an ldpnetv2 projector",
    ),
    "too long": ("v2_stage2", "mixed", (*NEW, "--model-max-length", 4096), "add --model-max-length 2048"),
    "a LoRA": (
        "v2_stage2",
        "mixed",
        ("--model", GOLDEN / "lora_v1" / "lora", "--vision-tower", TOWER),
        "merge it first",
    ),
    "a batch": ("v2_stage2", "mixed", (*NEW, "--per-device-train-batch-size", 3), "--per-device-train-batch-size 2"),
    "a schedule": ("v2_stage2", "mixed", (*NEW, "--lr-scheduler-type", "up"), "transformers refuses recipe v2_stage2"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_work_is_refused_before_training(name, data, tmp_path):
    recipe, rows, options, problem = REFUSALS[name]
    assert problem in refusal(recipe, data.get(rows, rows), tmp_path / "out", *options)


def test_a_foreign_directory_and_rows_without_their_pictures_are_refused(data, tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    assert "is no run" in refusal("v2_stage2", data["mixed"], tmp_path, *NEW)
    bare = run(FINETUNE, "--recipe", "v2_stage2", "--data", data["mixed"], "--out", tmp_path / "out", *NEW, "--no-bf16")
    assert bare.returncode == 2
    assert "add --images" in bare.stderr


def test_help_names_every_hyperparameter():
    done = run(FINETUNE, "--help")
    assert done.returncode == 0
    assert "--mm-projector-lr" in done.stdout and "v2_stage1" in done.stdout
