"""Trainer of contrastive pre-training: batches are not accumulated, and both losses are logged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainingArguments

from mobilevlm.checkpoint.config import VisionConfig
from mobilevlm.errors import UserError

from .arguments import training_arguments
from .data import NOTES
from .optimizers import new_optimizer
from .recipe import Recipe
from .summary import Progress
from .tower_files import save_tower


def clip_arguments(recipe: Recipe, out: Path) -> TrainingArguments:
    """Returns the TrainingArguments of a contrastive run.

    Args:
        recipe: the hyperparameters.
        out: directory of the run.

    Raises:
        UserError: as `training_arguments`, and when the batch would be accumulated from smaller ones.
    """
    arguments = training_arguments(recipe, out)
    if arguments.gradient_accumulation_steps > 1:
        wanted, each = recipe.global_batch_size, recipe.per_device_train_batch_size
        raise UserError(
            f"images are told from the others in their batch, so a global batch of {wanted} cannot be put together "
            f"from batches of {each}: use --global-batch-size {each * arguments.world_size}, or more processes"
        )
    return arguments


class ClipTrainer(Trainer):
    """Trains an `ImageTextModel`.

    Args:
        recipe: optimiser, weight decay.
        vision: sizes and preprocessing of the tower, which are saved with it.
        **options: arguments of transformers' Trainer.
    """

    def __init__(self, recipe: Recipe, vision: VisionConfig, **options: Any):
        self.recipe, self.vision, self.progress = recipe, vision, Progress()
        self.parts: dict[str, torch.Tensor] = {}
        self.batches = 0
        super().__init__(callbacks=[self.progress], **options)
        assert self.args.output_dir is not None  # `clip_arguments` sets it
        self.out = Path(self.args.output_dir)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """Returns the model's own loss; its parts are summed up for the next line of the log.

        Args:
            model: an `ImageTextModel`.
            inputs: a batch of `CaptionCollator`.
            return_outputs: whether to return the losses by name, too.
            num_items_in_batch: not used: batches are not accumulated.
        """
        self.progress.count(inputs.pop(NOTES), inputs)
        outputs = model(**inputs)
        self.batches += 1
        for name, value in outputs.items():
            if name != "loss":
                self.parts[name] = self.parts.get(name, 0) + value.detach()
        return (outputs["loss"], outputs) if return_outputs else outputs["loss"]

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Adds the parts of the loss to the entry with the loss: means over the same batches of this process."""
        if "loss" in logs:
            logs |= {name: round(float(value) / self.batches, 4) for name, value in self.parts.items()}
            self.parts, self.batches = {}, 0
        super().log(logs, *args, **kwargs)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Writes a checkpoint with the whole model, or the tower alone, in CLIP's layout, as the run's result."""
        if output_dir and Path(output_dir) != self.out:
            super()._save(output_dir, state_dict)
        elif self.args.should_save:
            model = self.accelerator.unwrap_model(self.model)
            save_tower(model.vision_model, self.vision, self.out)

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """Returns the recipe's optimiser; only matrices decay, not gains, biases and the temperature, as in CLIP."""
        if self.optimizer is None:
            trained = self.model if model is None else model
            assert trained is not None  # a Trainer lacks one before `__init__` is done
            _, options = self.get_optimizer_cls_and_kwargs(self.args)
            weights = list(trained.parameters())
            groups = [
                {"params": [weight for weight in weights if weight.ndim > 1], "weight_decay": self.recipe.weight_decay},
                {"params": [weight for weight in weights if weight.ndim <= 1], "weight_decay": 0.0},
            ]
            self.optimizer = new_optimizer(self.recipe.optim, trained, groups, options)
        return self.optimizer
