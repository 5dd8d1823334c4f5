"""How every training command runs its Trainer: resume, train, save, say how it went."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .run import newest_checkpoint
from .summary import summarise, write_summary


def train_and_save(trainer: Any, out: Path) -> None:
    """Train from the newest checkpoint of `out`, if there is one, and write the result and its summary there.

    Args:
        trainer: a Trainer with `recipe` and `progress`.
        out: the directory of the run.
    """
    is_main = trainer.is_world_process_zero()
    checkpoint = newest_checkpoint(out)
    if is_main and checkpoint:
        print(f"resuming from {checkpoint}")
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.save_model(str(out))
    summary = summarise(trainer.progress, trainer.recipe.name, trainer.state)
    if is_main:
        trainer.state.save_to_json(str(out / "trainer_state.json"))
        write_summary(summary, out)
