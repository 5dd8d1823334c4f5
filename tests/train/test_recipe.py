"""Recipes: the published values, files people write, flags, and the same global batch on any number of processes."""

import argparse
import json

import pytest

from mobilevlm.errors import UserError
from mobilevlm.train.arguments import accumulation_steps, training_arguments
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


def test_deepspeed_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="pip install deepspeed"):
        training_arguments(load_recipe("v2_stage2"), tmp_path)
