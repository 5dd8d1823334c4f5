"""Directory of a run: which run it belongs to, where to resume, whether it is finished, whether the disk suffices."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobilevlm.atomic_file import SUFFIX, write_whole
from mobilevlm.checkpoint.config_types import read_json
from mobilevlm.errors import UserError

from .recipe import Recipe

if TYPE_CHECKING:
    from torch import nn

RUN_FILE, STATE_FILE = "run.json", "trainer_state.json"
# Fields that may differ when a run resumes: they change speed, saving and reports, not what is learned.
FREE = (
    *("dataloader_num_workers", "gradient_checkpointing", "parallel", "save_steps", "save_total_limit"),
    *("logging_steps", "report_to", "name"),
)


def claim(out: Path, recipe: Recipe, inputs: Mapping[str, str | None]) -> None:
    """Creates the directory of a run, or accepts that it is already this run's.

    Args:
        out: directory of the run.
        recipe: the hyperparameters.
        inputs: what the run starts from and learns from, by the names of the flags.

    Raises:
        UserError: it holds another run, or something that is not a run.
    """
    wanted = {"recipe": asdict(recipe), "inputs": inputs}
    if (out / RUN_FILE).is_file():
        _compare(out, read_json(out / RUN_FILE), wanted)
        return
    begun = RUN_FILE + SUFFIX  # of a run that was killed at its very beginning
    if out.exists() and (not out.is_dir() or any(path.name != begun for path in out.iterdir())):
        raise UserError(f"{out} exists and is no run of this command: give another --out, or empty it")
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_whole(out / RUN_FILE, (json.dumps(wanted, indent=2) + "\n").encode())
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror}") from None


def _compare(out: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    there, here = ({**run.get("recipe", {}), **run.get("inputs", {})} for run in (found, wanted))
    differences = [
        f"{key} is {there.get(key)!r} there and {here.get(key)!r} here"
        for key in here
        if key not in FREE and there.get(key) != here.get(key)
    ]
    if differences:
        raise UserError(
            f"{out} holds a run of recipe {there.get('name')}, this is {here.get('name')}: {'; '.join(differences)}. "
            "Give another --out, or remove that directory"
        )


def newest_checkpoint(out: Path) -> Path | None:
    """Returns the newest complete checkpoint: its state, which is written last, can be read."""
    found = [path for path in out.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    for path in sorted(found, key=_step, reverse=True):
        try:
            if json.loads((path / STATE_FILE).read_text())["global_step"] == _step(path):
                return path
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _step(path: Path) -> int:
    return int(path.name.removeprefix("checkpoint-"))


def check_space(out: Path, model: nn.Module, recipe: Recipe) -> None:
    """Compares what the run will write with the free space on the disk.

    Args:
        out: directory of the run.
        model: the model that is trained.
        recipe: gives `trains` and `save_total_limit`.

    Raises:
        UserError: the checkpoints will not fit.
    """
    parameters = list(model.parameters())
    learned = sum(weight.numel() * weight.element_size() for weight in parameters if weight.requires_grad)
    whole = sum(weight.numel() * weight.element_size() for weight in parameters)
    saved = learned if recipe.trains in ("projector", "lora") else whole
    # A checkpoint holds the weights and two moments of each that learns; the newest is written before the oldest goes.
    needed = saved + (recipe.save_total_limit + 1) * (saved + 2 * learned)
    existing = [path for path in out.glob("checkpoint-*/**/*") if path.is_file()]
    free = shutil.disk_usage(out).free + sum(path.stat().st_size for path in existing)
    if free < needed:
        raise UserError(
            f"{out} needs about {needed / 2**30:.1f} GiB for its checkpoints, {free / 2**30:.1f} GiB are free: make "
            "room, give an --out on another disk, or lower --save-total-limit"
        )
