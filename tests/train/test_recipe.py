"""Recipes: the published values, files people write, flags, and the same global batch on any number of processes."""

import argparse
import json
from importlib.util import find_spec
from types import SimpleNamespace

import pytest

from mobilevlm.errors import UserError
from mobilevlm.train.arguments import PARALLEL, accumulation_steps, parallel_arguments, training_arguments
from mobilevlm.train.recipe import RECIPES, Recipe, add_recipe_options, load_recipe, recipe_from_args, recipe_names

PUBLISHED = {  # learning rate, projector's, global and device batch, what learns, wording, pictures, parallel
    "v1_stage1": (1e-3, None, 256, 32, "projector", "plain", "square", "zero2"),
    "v1_stage2_1.7b": (2e-5, None, 128, 16, "projector+llm", "v1", "pad", "zero2"),
    "v1_stage2_3b": (4e-5, None, 128, 16, "projector+llm", "v1", "pad", "zero3"),
    "v1_lora_1.7b": (1e-4, None, 128, 16, "lora", "v1", "pad", "zero2"),
    "v1_lora_3b": (2e-4, None, 128, 16, "lora", "v1", "pad", "zero3"),
    "v2_stage1": (2e-5, 1e-3, 256, 32, "projector+llm", "plain", "square", "zero2"),
    "v2_stage2": (4e-5, None, 128, 16, "projector+llm", "v1", "pad", "zero3"),
    "v2_lora": (2e-4, None, 128, 16, "lora", "v1", "pad", "zero3"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_recipes(name):
    recipe = load_recipe(name)
    rates = (recipe.learning_rate, recipe.mm_projector_lr)
    batches = (recipe.global_batch_size, recipe.per_device_train_batch_size)
    rest = (recipe.trains, recipe.template, recipe.image_aspect_ratio, recipe.parallel)
    assert rates + batches + rest == PUBLISHED[name]
    assert (recipe.lr_scheduler_type, recipe.warmup_ratio, recipe.weight_decay) == ("cosine", 0.03, 0.0)
    assert (recipe.num_train_epochs, recipe.model_max_length, recipe.bf16, recipe.tf32) == (1.0, 2048, True, True)
    assert recipe.group_by_modality_length is (recipe.template == "v1")
    assert accumulation_steps(recipe, 8) == 1
    assert accumulation_steps(recipe, 1) == 8


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_makes_training_arguments(name, tmp_path, recwarn):
    recipe = load_recipe(name)
    arguments = training_arguments(recipe, tmp_path)
    each, steps = arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps
    assert each * steps * arguments.world_size == recipe.global_batch_size
    assert arguments.get_warmup_steps(1000) == (recipe.warmup_steps or round(1000 * recipe.warmup_ratio))
    assert arguments.learning_rate == recipe.learning_rate
    assert not [str(warning.message) for warning in recwarn if "deprecated" in str(warning.message)]
    assert json.loads((RECIPES / f"{name}.json").read_text())["source"]


def test_recipes_extend_each_other_and_files_are_recipes_too(tmp_path):
    (tmp_path / "mine.json").write_text('{"extends": "v2_stage2", "learning_rate": 1}')
    recipe = load_recipe(tmp_path / "mine.json")
    assert (recipe.name, recipe.learning_rate, recipe.template) == ("mine", 1, "v1")
    recipe.save(tmp_path / "saved.json")
    assert load_recipe(tmp_path / "saved.json") == recipe


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"learning_rat": 1}', "unknown keys: learning_rat. Known are .*learning_rate"),
        ('{"learning_rate": "high"}', "learning_rate 'high'; float is needed"),
        ('{"global_batch_size": null}', "null for global_batch_size"),
        ('{"global_batch_size": 0}', "at least 1"),
        ('{"trains": "everything"}', "it can be projector, "),
        ('{"extends": "bad"}', "extends itself"),
        ('{"extends": "unheard_of"}', "there is no recipe unheard_of"),
        ("[]", "no JSON object"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name(tmp_path, text, problem):
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(UserError, match=problem):
        load_recipe(tmp_path / "bad.json")


def options(*words):
    parser = argparse.ArgumentParser()
    add_recipe_options(parser)
    return recipe_from_args(parser.parse_args(["--recipe", *words]))


def test_every_hyperparameter_is_a_flag():
    assert options("v2_stage1") == load_recipe("v2_stage1")
    changed = options("v2_stage1", "--mm-projector-lr", "none", "--no-bf16", "--seed", "7", "--template", "v1")
    assert (changed.mm_projector_lr, changed.bf16, changed.seed, changed.template) == (None, False, 7, "v1")
    parser = argparse.ArgumentParser()
    add_recipe_options(parser)
    text = parser.format_help()
    for name in Recipe.__dataclass_fields__:
        assert name == "name" or "--" + name.replace("_", "-") in text


def test_a_batch_that_does_not_divide_is_refused_with_one_that_does():
    recipe = Recipe("r", global_batch_size=128, per_device_train_batch_size=48)
    with pytest.raises(UserError, match=r"48 x 2 .* 128: use --per-device-train-batch-size 32"):
        accumulation_steps(recipe, 2)
    with pytest.raises(UserError, match=r"128 .* 3 processes: use --global-batch-size 126"):
        accumulation_steps(recipe, 3)


def test_what_cannot_be_divided_is_said(tmp_path, monkeypatch):
    """On CPUs accelerate ignores DeepSpeed without a word."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("v2_stage1", "v2_stage2"):
        with pytest.raises(UserError, match="add --parallel fsdp .* or --parallel none"):
            training_arguments(load_recipe(name), tmp_path)
    if find_spec("deepspeed") is None:
        with pytest.raises(UserError, match="pip install deepspeed"):
            parallel_arguments("zero3", on_gpu=True)


# Settings of ZeRO that DeepSpeed's documentation lists (https://www.deepspeed.ai/docs/config-json), of those we use.
ZERO = {"stage", "overlap_comm", "contiguous_gradients", "sub_group_size", "reduce_bucket_size"}
ZERO3 = {"stage3_prefetch_bucket_size", "stage3_param_persistence_threshold", "stage3_max_live_parameters"}
ZERO3 |= {"stage3_max_reuse_distance", "stage3_gather_16bit_weights_on_model_save"}
AUTO = {"train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping"}


@pytest.mark.parametrize("stage", [2, 3])
def test_the_deepspeed_files_hold_what_deepspeed_knows(stage):
    config = json.loads((PARALLEL / f"zero{stage}.json").read_text())
    assert set(config) == AUTO | {"fp16", "bf16", "zero_optimization"}
    assert {config[name] for name in AUTO} == {config["bf16"]["enabled"]} == {"auto"}
    assert set(config["zero_optimization"]) == (ZERO if stage == 2 else ZERO | ZERO3)
    assert config["zero_optimization"]["stage"] == stage


@pytest.mark.parametrize("stage", [2, 3])
def test_the_deepspeed_files_take_the_recipes_values(stage, tmp_path):
    pytest.importorskip("deepspeed", reason="it is an extra of those who train on several GPUs")
    from deepspeed.runtime.config import DeepSpeedConfig
    from transformers.integrations.deepspeed import HfTrainerDeepSpeedConfig

    arguments = training_arguments(load_recipe(f"v2_stage{stage - 1}"), tmp_path)
    config = HfTrainerDeepSpeedConfig(str(PARALLEL / f"zero{stage}.json"))
    config.trainer_config_process(arguments)
    config.trainer_config_finalize(arguments, SimpleNamespace(config=SimpleNamespace(hidden_size=64)), 100)
    assert config.config["zero_optimization"]["stage"] == stage
    assert "auto" not in json.dumps(config.config)
    assert config.config["train_micro_batch_size_per_gpu"] == arguments.per_device_train_batch_size
    assert config.config["bf16"]["enabled"] is True
    assert config.config["gradient_clipping"] == 1.0
    read = DeepSpeedConfig(config.config)
    assert (read.zero_optimization_stage, read.bfloat16_config.enabled) == (stage, True)
    assert read.zero_config.overlap_comm is (stage == 3)
    assert read.zero_config.gather_16bit_weights_on_model_save is (stage == 3)
    with pytest.raises(ValueError, match="nonsense"):  # so a misspelt setting would have been refused
        DeepSpeedConfig(config.config | {"zero_optimization": {"stage": stage, "nonsense": 1}})


def test_the_fsdp_file_holds_what_accelerate_knows(tmp_path):
    from accelerate.utils import FullyShardedDataParallelPlugin
    from transformers import TrainingArguments

    arguments = TrainingArguments(output_dir=str(tmp_path), **parallel_arguments("fsdp", on_gpu=True))
    plugin = FullyShardedDataParallelPlugin(**arguments.fsdp_plugin_args)
    assert plugin.fsdp_version == 2
    assert plugin.transformer_cls_names_to_wrap == ["LlamaDecoderLayer"]
    assert "FULL_STATE_DICT" in str(plugin.state_dict_type)
