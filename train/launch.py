"""Beginning and end of every training command: ownership of the directory, resuming, training, saving, the summary."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mobilevlm.packages import require

from .arguments import world_rank
from .recipe import Recipe
from .run import check_space, claim, newest_checkpoint

if TYPE_CHECKING:
    from .clip_trainer import ClipTrainer
    from .trainer import MobileVLMTrainer

SUMMARY_FILE = "train_summary.json"


def start(out: Path, recipe: Recipe, inputs: Mapping[str, str | None]) -> bool:
    """Claims a directory for this run (see `run.claim`); False, with a message, if the run is already finished there.

    Args:
        out: directory of the run.
        recipe: the hyperparameters.
        inputs: what the run starts from and learns from, by the names of the flags.

    Raises:
        UserError: the directory holds another run, or something that is not a run, or PyTorch cannot be loaded.
    """
    require("training", "torch", "transformers", "accelerate", extra="train")
    is_main = world_rank() == 0
    if is_main:
        claim(out, recipe, inputs)
    if not (out / SUMMARY_FILE).is_file():
        return True
    if is_main:
        print(f"{out} is finished: {SUMMARY_FILE} says how it went")
    return False


def train_and_save(trainer: MobileVLMTrainer | ClipTrainer, out: Path) -> None:
    """Trains from the newest checkpoint of `out`, if there is one, and writes the result and its summary there.

    Args:
        trainer: the trainer of the run.
        out: directory of the run.

    Raises:
        UserError: the disk is too full for its checkpoints.
    """
    from transformers.utils.logging import disable_progress_bar

    from mobilevlm.checkpoint.pickles import check_plain

    from .summary import summarise, write_summary

    disable_progress_bar()  # hides that of saving; training has its own
    is_main = trainer.is_world_process_zero()
    if is_main:
        assert trainer.model is not None  # a Trainer lacks one before `__init__` is done
        check_space(out, trainer.model, trainer.recipe)
    checkpoint = newest_checkpoint(out)
    if is_main and checkpoint:
        print(f"resuming from {checkpoint}")
    if checkpoint:
        check_plain(checkpoint)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.save_model(str(out))
    summary = summarise(trainer.progress, trainer.recipe.name, trainer.state)
    if is_main:
        trainer.state.save_to_json(str(out / "trainer_state.json"))
        write_summary(summary, out / SUMMARY_FILE)


def end_process() -> None:
    """Ends this process if it is one of several; to be called when everything is written.

    Gloo's threads outlive the group where FSDP holds it, and one that frees a tensor while the interpreter shuts down
    aborts the process (PyTorch's pull request 179291 describes it; torch 2.13 has it still). `os._exit` skips the
    shutdown.
    """
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
