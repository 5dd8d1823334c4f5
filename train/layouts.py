"""File layouts of a run's result, as the original writes them: the whole model, the projector alone, or a LoRA."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mobilevlm.checkpoint.tensors import open_file
from mobilevlm.model.model import MobileVLM
from mobilevlm.model.projectors import PREFIX

PROJECTOR_FILE = "mm_projector.bin"
ADAPTER_FILE, ADAPTER_CONFIG, NON_LORA_FILE = "adapter_model.bin", "adapter_config.json", "non_lora_trainables.bin"
State = Mapping[str, torch.Tensor]


def save_layout(model: Any, directory: Path, trains: str, state: State) -> None:
    """Writes what was trained.

    Args:
        model: a `MobileVLM`, or for a LoRA the PEFT model around one.
        directory: where to write; created if need be.
        trains: `trains` of the recipe.
        state: the model's state dict, gathered from all processes.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if trains == "projector":
        _save_tensors({name: value for name, value in state.items() if PREFIX in name}, directory / PROJECTOR_FILE)
        _save_config(model, directory, tune_mm_mlp_adapter=True)
    elif trains == "lora":
        _save_lora(model, directory, state)
    else:
        model.save_pretrained(directory, state_dict=dict(state))


def load_layout(model: Any, directory: Path, trains: str) -> None:
    """Reads the projector or the LoRA of `save_layout` back into the model that wrote it.

    Args:
        model: a `MobileVLM`, or for a LoRA the PEFT model around one.
        directory: where `save_layout` wrote.
        trains: `trains` of the recipe: projector or lora.
    """
    state = dict(model.state_dict())
    names = [PROJECTOR_FILE] if trains == "projector" else [ADAPTER_FILE, NON_LORA_FILE]
    for name in names:
        for key, value in open_file(directory / name).items():
            key = key.replace(".lora_A.", ".lora_A.default.").replace(".lora_B.", ".lora_B.default.")
            state[key].copy_(value)


def _save_lora(model: Any, directory: Path, state: State) -> None:
    """Writes a LoRA as PEFT 0.4 wrote it: without the adapter's name, and with the targets in a fixed order."""
    adapter = {name.replace(".default.", "."): value for name, value in state.items() if ".lora_" in name}
    _save_tensors(adapter, directory / ADAPTER_FILE)
    _save_tensors({name: value for name, value in state.items() if PREFIX in name}, directory / NON_LORA_FILE)
    config = model.peft_config["default"].to_dict() | {"inference_mode": True}
    text = json.dumps(config, indent=2, sort_keys=True, default=sorted)  # targets are a set
    (directory / ADAPTER_CONFIG).write_text(text + "\n")
    _save_config(model.get_base_model(), directory, tune_mm_mlp_adapter=False)


def _save_tensors(state: State, path: Path) -> None:
    torch.save({name: value.detach().cpu().clone() for name, value in state.items()}, path)


def _save_config(model: MobileVLM, directory: Path, tune_mm_mlp_adapter: bool) -> None:
    """Writes the whole model's `config.json`. The tower is not copied: these files are useless without their base."""
    config, tower = model.config.model_config, model.checkpoint.tower_dir
    if tower:
        config = replace(config, mm_vision_tower=str(tower))
    values = config.to_published() | {"tune_mm_mlp_adapter": tune_mm_mlp_adapter}
    values["torch_dtype"] = str(next(model.parameters()).dtype).removeprefix("torch.")
    (directory / "config.json").write_text(json.dumps(values, indent=2) + "\n")
