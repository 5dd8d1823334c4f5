"""Writes what a checkpoint has beside its weights, in the published layout."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from ..checkpoint.checkpoint import Checkpoint
from ..checkpoint.config import ModelConfig
from ..checkpoint.tower import TOWER_FILES
from ..text.tokenizer_files import write_tokenizer_files


def write_description(directory: Path, config: ModelConfig, dtype: torch.dtype, source: Checkpoint | None) -> None:
    """Write `config.json`, and copy the tokenizer's and the vision tower's files.

    Args:
        directory: of the weights; made if it is not there.
        config: of the model.
        dtype: of the weights.
        source: the checkpoint that the model was read from; None leaves the tokenizer and the tower out.
    """
    directory.mkdir(parents=True, exist_ok=True)
    write_config(directory, config, dtype)
    if source is None:
        return
    if source.tokenizer_dir != directory.resolve():
        write_tokenizer_files(source.tokenizer_dir, directory)
    tower = config.mm_vision_tower
    if source.tower_dir and tower and not Path(tower).is_absolute():
        # Named relatively, it has to come along; without weights where those inside the checkpoint count.
        _copy(TOWER_FILES[:2] if config.uses_checkpoint_tower else TOWER_FILES, source.tower_dir, directory / tower)


def write_config(directory: Path, config: ModelConfig, dtype: torch.dtype) -> None:
    """Write `config.json` as published models have it.

    Args:
        directory: of the weights.
        config: of the model.
        dtype: of the weights.
    """
    published = config.to_published() | {"torch_dtype": str(dtype).removeprefix("torch.")}
    (directory / "config.json").write_text(json.dumps(published, indent=2) + "\n")


def _copy(names: Sequence[str], source: Path, target: Path) -> None:
    """Copy those of the files that exist."""
    for name in names:
        if (source / name).is_file() and source != target.resolve():
            target.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target / name)
