"""Figures of a run, counted during training: tokens and samples per second, peak memory, loss, unusable rows."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from mobilevlm.text.prompt import IMAGE_TOKEN_INDEX

from .cpu import give_back_memory


class Progress(TrainerCallback):
    """Counts what passes through the model, and reports once what happened to a row.

    Attributes:
        tokens_per_image: embeddings that replace an image token.
        rows: number of each row that was replaced, or from which nothing was learned, with which of the two.
    """

    def __init__(self, tokens_per_image: int = 0):
        self.tokens_per_image = tokens_per_image
        self.rows: dict[int, str] = {}
        self.samples, self.seconds = 0, 0.0
        self._tokens: torch.Tensor | int = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Starts the clock.

        Args:
            args: not used.
            state: gives the step that training starts from.
            control: not used.
            **kwargs: not used.
        """
        self.started, self.first_step = time.monotonic(), state.global_step

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stops the clock.

        Args:
            args: not used.
            state: not used.
            control: not used.
            **kwargs: not used.
        """
        self.seconds = time.monotonic() - self.started

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Returns free memory to the system; once per log entry is often enough.

        Args:
            args: not used.
            state: not used.
            control: not used.
            **kwargs: not used.
        """
        give_back_memory()

    def count(self, notes: list[tuple[int, str, str]], batch: dict[str, Any]) -> None:
        """Counts one batch and reports the notes of its rows.

        Args:
            notes: number of a row, "replaced" or "unlearned", and a message.
            batch: `input_ids` and `attention_mask` (B, T).
        """
        for number, kind, text in notes:
            if number not in self.rows:
                self.rows[number] = kind
                print(text, file=sys.stderr)
        ids = batch["input_ids"]
        self.samples += len(ids)
        # Stays on the device: reading the number would wait for it at every step.
        places = (ids == IMAGE_TOKEN_INDEX).sum() * (self.tokens_per_image - 1)
        self._tokens = self._tokens + batch["attention_mask"].sum() + places

    def totals(self) -> dict[str, Any]:
        """Returns samples, tokens and rows over all processes. Every process has to call this."""
        mine = {"samples": self.samples, "tokens": int(self._tokens), "rows": self.rows, "memory": peak_memory_mib()}
        everyone = gather_object([mine])
        rows = {number: kind for one in everyone for number, kind in one["rows"].items()}
        kinds = list(rows.values())
        return {
            "samples": sum(one["samples"] for one in everyone),
            "tokens": sum(one["tokens"] for one in everyone),
            "rows_replaced": kinds.count("replaced"),
            "rows_unlearned": kinds.count("unlearned"),
            "peak_memory_mib": max(one["memory"] for one in everyone),
            "processes": len(everyone),
        }


def peak_memory_mib() -> int:
    """Peak memory of this process in MiB: of the GPU where there is one, else of the machine."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() // 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (2**20 if sys.platform == "darwin" else 2**10)


def summarise(progress: Progress, recipe: str, state: TrainerState) -> dict[str, Any]:
    """Returns the figures that `write_summary` writes. Every process has to call this.

    Args:
        progress: counts of this process.
        recipe: name of the recipe.
        state: the Trainer's state, with its log.
    """
    totals = progress.totals()
    losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
    seconds = max(progress.seconds, 1e-9)
    return {
        "recipe": recipe,
        "steps": state.global_step,
        "steps_of_this_session": state.global_step - progress.first_step,
        "epochs": round(state.epoch or 0, 4),
        "first_loss": losses[0] if losses else None,
        "final_loss": losses[-1] if losses else None,
        "seconds": round(progress.seconds, 2),
        "samples_per_s": round(totals["samples"] / seconds, 3),
        "tokens_per_s": round(totals["tokens"] / seconds, 1),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "torch": torch.__version__,
    } | totals


def write_summary(summary: dict[str, Any], path: Path) -> None:
    """Writes a summary as JSON and prints it as a line.

    Args:
        summary: see `summarise`.
        path: the file to write.
    """
    path.write_text(json.dumps(summary, indent=2) + "\n")
    lost = [f"{summary[f'rows_{kind}']} rows {kind}" for kind in ("replaced", "unlearned") if summary[f"rows_{kind}"]]
    parts = [
        f"{summary['recipe']}: {summary['steps']} steps",
        f"loss {summary['final_loss']:.4f}" if summary["final_loss"] is not None else "no loss logged",
        f"{summary['tokens_per_s']:.0f} tokens/s",
        f"{summary['samples_per_s']:.1f} samples/s",
        f"peak {summary['peak_memory_mib']} MiB",
        *lost,
    ]
    print(", ".join(parts))
