"""Conversion of a recipe to transformers' TrainingArguments: the same global batch on any number of processes."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobilevlm.errors import UserError

from .recipe import Recipe

if TYPE_CHECKING:
    from transformers import TrainingArguments

PARALLEL = Path(__file__).parent / "parallel"
# Fields that TrainingArguments knows under the same name and with the same meaning.
SAME = (
    *("learning_rate", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm"),
    *("lr_scheduler_type", "num_train_epochs", "max_steps", "per_device_train_batch_size", "seed", "bf16"),
    *("save_steps", "save_total_limit", "logging_steps", "report_to", "dataloader_num_workers"),
)
ALWAYS: dict[str, Any] = {
    "remove_unused_columns": False,
    "ddp_find_unused_parameters": False,
    "eval_strategy": "no",
    "logging_nan_inf_filter": False,
}
CHECKPOINTING = ("activation_checkpointing", "gradient_checkpointing")


def world_size() -> int:
    """Number of processes in this run, as `accelerate launch` and torchrun tell each of them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def world_rank() -> int:
    """Number of this process in the run; process 0 is the one that writes files."""
    return int(os.environ.get("RANK", "0"))


def accumulation_steps(recipe: Recipe, processes: int) -> int:
    """Number of forward passes per step at which the global batch is the recipe's.

    Args:
        recipe: gives `global_batch_size` and `per_device_train_batch_size`, in samples.
        processes: number of processes in the run.

    Raises:
        UserError: the global batch cannot be divided so; the message names a batch size that can.
    """
    wanted, each = recipe.global_batch_size, recipe.per_device_train_batch_size
    if wanted % processes:
        raise UserError(
            f"the global batch of {wanted} cannot be divided over {processes} processes: "
            f"use --global-batch-size {max(1, wanted // processes) * processes} or another number of processes"
        )
    if wanted % (each * processes):
        share = wanted // processes
        fits = max(size for size in range(1, min(each, share) + 1) if share % size == 0)
        raise UserError(
            f"per_device_train_batch_size {each} x {processes} processes does not divide the global batch of {wanted}: "
            f"use --per-device-train-batch-size {fits}"
        )
    return wanted // (each * processes)


def training_arguments(recipe: Recipe, out_dir: str | Path) -> TrainingArguments:
    """Returns the TrainingArguments of a recipe on this machine.

    Args:
        recipe: the hyperparameters.
        out_dir: directory of the checkpoints.

    Raises:
        UserError: the global batch cannot be divided, this machine cannot do what the recipe asks for, or transformers
            refuses a value.
    """
    import torch
    from transformers import TrainingArguments

    processes, on_gpu = world_size(), torch.cuda.is_available()
    _check_machine(recipe, processes, on_gpu)
    values = ALWAYS | {name: getattr(recipe, name) for name in SAME}
    values |= {
        "output_dir": str(out_dir),
        "gradient_accumulation_steps": accumulation_steps(recipe, processes),
        "warmup_steps": recipe.warmup_steps or recipe.warmup_ratio,  # below 1 it is a ratio
        "tf32": recipe.tf32 if on_gpu else None,  # where there is no CUDA there is no such thing
        "use_cpu": not on_gpu,
        "dataloader_pin_memory": on_gpu,
        "data_seed": recipe.seed,
    }
    if recipe.gradient_checkpointing:
        values |= _checkpointing()
    if recipe.min_lr_rate is not None:
        values["lr_scheduler_kwargs"] = {"min_lr_rate": recipe.min_lr_rate}
    if processes > 1:
        values |= parallel_arguments(recipe.parallel, on_gpu)
    try:
        arguments = TrainingArguments(**values)
    except ValueError as error:
        raise UserError(f"transformers refuses recipe {recipe.name}: {error}") from None
    if processes == 1:  # a process drives one GPU: for more there is `accelerate launch`
        arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _checkpointing() -> dict[str, Any]:
    """Options of gradient checkpointing under this transformers' name, which changed within version 5."""
    from transformers import TrainingArguments

    name = next(name for name in CHECKPOINTING if name in TrainingArguments.__dataclass_fields__)
    return {name: True, f"{name}_kwargs": {"use_reentrant": False}}


def _check_machine(recipe: Recipe, processes: int, on_gpu: bool) -> None:
    """Refuses what the recipe asks for and this machine, or this number of processes, cannot do."""
    import torch

    if on_gpu and recipe.bf16 and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UserError("this GPU has no bfloat16: add --no-bf16")
    if recipe.report_to == "tensorboard" and find_spec("tensorboard") is None:
        raise UserError("--report-to tensorboard needs TensorBoard: pip install tensorboard")
    if processes > 1 and recipe.optim == "muon" and recipe.parallel != "none":
        raise UserError(
            f"optim=muon needs whole matrices, and parallel={recipe.parallel} divides them: add --parallel none or "
            "--optim adamw"
        )


def parallel_arguments(parallel: str, on_gpu: bool) -> dict[str, Any]:
    """Returns the TrainingArguments that divide a model over processes; empty for `none`.

    Args:
        parallel: a recipe's `parallel`: none, zero2, zero3 or fsdp.
        on_gpu: whether this machine has a CUDA GPU.

    Raises:
        UserError: DeepSpeed is asked for and not installed, or there is no GPU, which only FSDP can do without.
    """
    if parallel == "none":
        return {}
    config = str(PARALLEL / f"{parallel}.json")
    if parallel == "fsdp":
        return {"fsdp": True, "fsdp_config": config}
    if not on_gpu:
        # DeepSpeed can do it (tests/train/test_parallel.py), accelerate 1.15 cannot: told to use the CPU it leaves out
        # DeepSpeed without a word, otherwise it counts every process as the only one.
        raise UserError(
            f"the recipe asks for parallel={parallel}, which divides a model over GPUs, and there is none: add "
            "--parallel fsdp (which can do without) or --parallel none (every process holds the whole model)"
        )
    if find_spec("deepspeed") is None:
        raise UserError(
            f"the recipe asks for parallel={parallel}, which needs DeepSpeed: pip install deepspeed, or add "
            "--parallel fsdp (built into PyTorch) or --parallel none (every process holds the whole model)"
        )
    return {"deepspeed": config}
