"""transformers' Trainer with the original's optimiser groups, order of rows and saved layouts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from mobilevlm.model.model import MobileVLM
from mobilevlm.model.projectors import PREFIX, num_image_tokens
from mobilevlm.text.prompt import IGNORE_INDEX

from .cpu import divide_on_cpu
from .data import NOTES, Collator, TrainingRows
from .layouts import load_layout, save_layout
from .lora import with_lora
from .optimizers import new_optimizer
from .packing import PackedRows
from .recipe import Recipe
from .sampler import EpochSampler
from .summary import Progress

NORMS = (torch.nn.LayerNorm, LlamaRMSNorm)


def trainable(model: MobileVLM, recipe: Recipe, base: str) -> Any:
    """Freezes what the recipe does not train, and returns the model, wrapped in a LoRA where the recipe trains one.

    With bf16 the frozen weights of the language model are kept in bfloat16: only products with them are needed.

    Args:
        model: the model, changed in place.
        recipe: says what is trained.
        base: name of the base in a LoRA's configuration.
    """
    model.requires_grad_(recipe.trains in ("projector+llm", "llm"))
    if recipe.has_images:
        model.model.vision_tower.requires_grad_(False)
        model.model.mm_projector.requires_grad_(True)
    if recipe.bf16 and recipe.trains in ("projector", "lora"):
        for name, parameter in model.named_parameters():
            if "vision_tower" not in name and PREFIX not in name:
                parameter.data = parameter.data.to(torch.bfloat16)
    return with_lora(model, recipe, base) if recipe.trains == "lora" else model


def optimizer_groups(model: torch.nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Parameter groups: the original's two, with and without weight decay, or four with a rate of the projector.

    Norm weights and biases do not decay. Frozen parameters are in no group.

    Args:
        model: the model that is trained.
        recipe: gives `weight_decay` and `mm_projector_lr`.
    """
    norms = {id(weight) for part in model.modules() if isinstance(part, NORMS) for weight in part.parameters()}
    own_rates = [None] if recipe.mm_projector_lr is None else [False, True]
    groups = []
    for in_projector in own_rates:
        for decays in (True, False):
            members = [
                weight
                for name, weight in model.named_parameters()
                if weight.requires_grad
                and (in_projector is None or (PREFIX in name) is in_projector)
                and decays is not (id(weight) in norms or name.endswith("bias"))
            ]
            group = {"params": members, "weight_decay": recipe.weight_decay if decays else 0.0}
            groups.append(group | ({"lr": recipe.mm_projector_lr} if in_projector else {}))
    return [group for group in groups if group["params"]]


class _Epochs(TrainerCallback):
    """Tells the sampler its epoch, also when a run resumes in the middle of one."""

    def __init__(self, sampler: EpochSampler) -> None:
        self.sampler = sampler

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.sampler.set_epoch(math.floor(state.epoch or 0))


class MobileVLMTrainer(Trainer):
    """Trains a `MobileVLM`, or a LoRA around one, by a recipe."""

    def __init__(
        self,
        model: Any,
        recipe: Recipe,
        arguments: TrainingArguments,
        rows: TrainingRows | PackedRows,
        collator: Collator,
    ):
        """Takes a model, the arguments and the rows of one run.

        Args:
            model: from `trainable`.
            recipe: the hyperparameters.
            arguments: from `training_arguments`.
            rows: the training rows.
            collator: makes the batches.
        """
        self.recipe = recipe
        size, each = recipe.global_batch_size, recipe.per_device_train_batch_size
        grouped = recipe.group_by_modality_length
        self.sampler = EpochSampler(rows.lengths, each, size // each, recipe.seed, grouped)
        config = (model.get_base_model() if recipe.trains == "lora" else model).config.model_config
        self.progress = Progress(num_image_tokens(config) if config.vision else 0)
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=rows,
            data_collator=collator,
            callbacks=[_Epochs(self.sampler), self.progress],
        )
        # The loss of a step is the mean of its micro-batches' means, as in the original, not of all tokens: answers of
        # one word would lose their weight against long descriptions.
        self.model_accepts_loss_kwargs = False
        assert self.args.output_dir is not None  # `training_arguments` sets it
        self.out = Path(self.args.output_dir)

    def create_accelerator_and_postprocess(self) -> None:
        """Divides the model over processes without a GPU as well, where that is asked for."""
        super().create_accelerator_and_postprocess()
        if self.args.fsdp and not self.is_fsdp_enabled:
            divide_on_cpu(self.accelerator.state, self.args.fsdp_plugin_args)
            self.is_fsdp_enabled = True

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochSampler:
        return self.sampler

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """Returns the recipe's optimiser over `optimizer_groups`."""
        if self.optimizer is None:
            trained = self.model if model is None else model
            assert trained is not None  # a Trainer lacks one before `__init__` is done
            _, options = self.get_optimizer_cls_and_kwargs(self.args)
            groups = optimizer_groups(trained, self.recipe)
            self.optimizer = new_optimizer(self.recipe.optim, trained, groups, options)
        return self.optimizer

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """Returns the model's loss; 0 for a batch in which nothing is learned, whose mean would be NaN.

        Args:
            model: the model that is trained.
            inputs: a batch of `Collator`.
            return_outputs: whether to return the model's outputs, too.
            num_items_in_batch: not used, see `model_accepts_loss_kwargs`.
        """
        self.progress.count(inputs.pop(NOTES), inputs)
        outputs = model(**inputs)
        loss = outputs.loss
        if not (inputs["labels"] != IGNORE_INDEX).any():
            loss = outputs.logits.sum() * 0.0
        return (loss, outputs) if return_outputs else loss

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if self.args.should_save:
            model = self.accelerator.unwrap_model(self.model)
            state = model.state_dict() if state_dict is None else state_dict
            save_layout(model, Path(output_dir or self.out), self.recipe.trains, state)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        # trainer_state.json is written next, by one process: it says that the checkpoint is complete.
        self.accelerator.wait_for_everyone()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.recipe.trains in ("projector", "lora") and not self.is_fsdp_enabled:
            load_layout(self.model, Path(resume_from_checkpoint), self.recipe.trains)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
