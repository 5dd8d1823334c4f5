"""Loss, gradients, what learns and at which rate, against the original's batches and rules."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from mobilevlm.image import ImageSpec
from mobilevlm.model.assemble import assemble
from mobilevlm.model.projectors import PREFIX
from mobilevlm.text.templates import TEMPLATES
from mobilevlm.train.arguments import training_arguments
from mobilevlm.train.data import NOTES, Collator, TrainingRows, read_rows
from mobilevlm.train.recipe import Recipe
from mobilevlm.train.trainer import MobileVLMTrainer, optimizer_groups, trainable
from tests.conftest import GOLDEN, GOLDEN_MODELS

BATCH = GOLDEN / "v1_ldpnet_112" / "train_batch"
RECIPE = Recipe("test", bf16=False, gradient_checkpointing=False, dataloader_num_workers=0, global_batch_size=4)
RECIPE = replace(RECIPE, per_device_train_batch_size=4)


def make_trainer(model, recipe, tmp_path, template="v1"):
    config = model.config.model_config
    spec = ImageSpec.of(replace(config, image_aspect_ratio={"plain": "square"}.get(template, "pad")))
    rows = read_rows(BATCH / f"{template}.json")
    data = TrainingRows(rows, model.tokenizer, TEMPLATES[template], 2048, spec, BATCH)
    learner = trainable(model, recipe, "base")
    return MobileVLMTrainer(learner, recipe, training_arguments(recipe, tmp_path), data, Collator(0, 2048))


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("template", ["plain", "v1"])
@pytest.mark.parametrize("name", GOLDEN_MODELS)
def test_loss_and_gradients_are_the_originals(name, template, checkpointing, tmp_path):
    """From the rows on disk to the gradients, through the trainer: loss to 1e-4, gradients to 1e-3 (seen: 2e-6)."""
    model = assemble(GOLDEN / name / "ckpt_safetensors")
    trainer = make_trainer(model, replace(RECIPE, gradient_checkpointing=checkpointing), tmp_path, template)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 1
    rows = trainer.train_dataset
    loss = trainer.training_step(model, trainer.data_collator([rows[number] for number in range(len(rows))]))
    golden = GOLDEN / name / "train_batch"
    assert loss.item() == pytest.approx(float(np.load(golden / f"{template}.npz")["loss"]), rel=1e-4)
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    norms = json.loads((golden / "summary.json").read_text())[template]["grad_norms"]
    assert set(gradients) == set(norms)  # every weight but the tower's
    for weight, norm in norms.items():
        assert gradients[weight].norm().item() == pytest.approx(norm, rel=1e-3), weight
    for weight, wanted in np.load(golden / f"{template}_grads.npz").items():
        difference = np.linalg.norm(gradients[weight].numpy() - wanted) / np.linalg.norm(wanted)
        assert difference < 1e-3, weight
    assert not model.model.vision_tower.training


@pytest.fixture
def model():
    return assemble(GOLDEN / "v1_ldpnet_112" / "ckpt_safetensors")


def names_of(groups, model):
    names = {id(weight): name for name, weight in model.named_parameters()}
    return [{names[id(weight)] for weight in group["params"]} for group in groups]


@pytest.mark.parametrize("projector_lr", [None, 1e-3])
def test_optimiser_groups(model, projector_lr):
    recipe = replace(RECIPE, weight_decay=0.1, mm_projector_lr=projector_lr)
    groups = optimizer_groups(trainable(model, recipe, ""), recipe)
    named = names_of(groups, model)
    assert len(groups) == (2 if projector_lr is None else 4)
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0] * (len(groups) // 2)
    assert [group.get("lr") for group in groups] == ([None, None] + [projector_lr] * 2)[: len(groups)]
    every = set.union(*named)
    assert sum(map(len, named)) == len(every)
    assert every == {name for name, _ in model.named_parameters() if "vision_tower" not in name}
    for group, members in zip(groups, named, strict=True):
        for name in members:
            is_norm = "norm" in name or ".block.0.1." in name or ".block.2.1." in name
            assert (group["weight_decay"] == 0) is (is_norm or name.endswith("bias")), name
            assert projector_lr is None or ("lr" in group) is (PREFIX in name)


def test_only_what_the_recipe_names_learns(model):
    recipe = replace(RECIPE, trains="projector")
    groups = optimizer_groups(trainable(model, recipe, ""), recipe)
    assert all(PREFIX in name for names in names_of(groups, model) for name in names)


def test_a_lora_learns_the_language_model_and_the_projector(model):
    pytest.importorskip("peft")
    recipe = replace(RECIPE, trains="lora", lora_r=4, lora_alpha=8, bf16=True)
    learner = trainable(model, recipe, "")
    learned = {name for name, weight in learner.named_parameters() if weight.requires_grad}
    assert {name for name in learned if ".lora_" not in name} == {
        name for name, _ in learner.named_parameters() if PREFIX in name
    }
    assert not any("vision_tower" in name for name in learned)
    adapted = {name.split(".")[-4] for name in learned if ".lora_A." in name}
    assert adapted == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    types = {weight.dtype for name, weight in learner.named_parameters() if name in learned}
    assert types == {torch.float32}
    assert model.lm_head.weight.dtype is torch.bfloat16


def test_a_batch_that_teaches_nothing_has_loss_zero(model, tmp_path):
    trainer = make_trainer(model, RECIPE, tmp_path)
    rows = [trainer.train_dataset[number] for number in range(2)]
    batch = trainer.data_collator([row | {"labels": torch.full_like(row["labels"], -100)} for row in rows])
    trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 1
    assert trainer.training_step(model, batch).item() == 0
    assert all(weight.grad is None or not weight.grad.any() for weight in model.parameters())


def test_notes_of_rows_are_said_once_and_counted(model, tmp_path, capfd):
    trainer = make_trainer(model, RECIPE, tmp_path)
    batch = trainer.data_collator([trainer.train_dataset[0]])
    batch[NOTES] = [(7, "replaced", "row 7 is replaced"), (8, "unlearned", "nothing from row 8")]
    for _ in range(2):
        trainer.compute_loss(model, dict(batch))
    assert capfd.readouterr().err.count("row 7 is replaced") == 1
    totals = trainer.progress.totals()
    assert (totals["rows_replaced"], totals["rows_unlearned"], totals["samples"]) == (1, 1, 2)
    length = batch["attention_mask"].sum().item() + 16 - 1
    assert totals["tokens"] == 2 * length
    assert totals["peak_memory_mib"] > 100
