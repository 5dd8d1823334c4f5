"""LoRA directories of the original: an adapter, the fully trained projector beside it, merged while they are read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from .tensors import CheckpointError, Entry, Tensors, open_file

PEFT_PREFIX = "base_model.model."


def is_lora(directory: Path) -> bool:
    """Whether a directory holds an adapter rather than a model."""
    return (directory / "adapter_config.json").is_file()


def merged(base: Tensors, directory: Path, adapter: dict[str, Any]) -> Tensors:
    """The base's tensors with the adapter's product added and the non-LoRA trainables put in, each when it is read.

    The sum is taken in float32.

    Raises:
        CheckpointError: the adapter is of a kind the original does not write, or does not fit the base.
    """
    if adapter.get("peft_type") != "LORA" or adapter.get("fan_in_fan_out") or adapter.get("bias", "none") != "none":
        raise CheckpointError(f"{directory / 'adapter_config.json'} is no plain LoRA (bias none): it cannot be merged")
    factors = _adapter_factors(directory)
    absent = sorted(name for name in factors if name not in base)
    if absent:
        raise CheckpointError(f"the LoRA in {directory} changes tensors its base lacks: {', '.join(absent)}")
    rank_scale = math.sqrt if adapter.get("use_rslora") else float
    scale = adapter["lora_alpha"] / rank_scale(adapter["r"])

    def entry(name: str) -> Entry:
        def read() -> torch.Tensor:
            down, up = (file[key].float() for file, key in factors[name])
            return torch.addmm(base[name].float(), up, down, alpha=scale)

        return Entry(base.entry(name).shape, read)

    changes = {name: entry(name) for name in factors}
    return base.replaced(changes | _non_lora_entries(directory))


def _adapter_factors(directory: Path) -> dict[str, list[tuple[Tensors, str]]]:
    """Weight name to its two factors, A (r, in) and B (out, r), as (file, key)."""
    names = ("adapter_model.safetensors", "adapter_model.bin")
    found = [directory / name for name in names if (directory / name).is_file()]
    if not found:
        raise CheckpointError(f"{directory} lacks its adapter weights: {' or '.join(names)}")
    file = open_file(found[0])
    factors: dict[str, list[tuple[Tensors, str]]] = {}
    unknown = [key for key in file if not key.endswith((".lora_A.weight", ".lora_B.weight"))]
    if unknown:
        raise CheckpointError(f"{found[0]} holds tensors that are no LoRA factors: {', '.join(sorted(unknown))}")
    for key in sorted(file):  # A sorts before B
        weight = key.removeprefix(PEFT_PREFIX).replace(".lora_A.weight", ".weight").replace(".lora_B.weight", ".weight")
        factors.setdefault(weight, []).append((file, key))
    single = sorted(weight for weight, pair in factors.items() if len(pair) != 2)
    if single:
        raise CheckpointError(f"{found[0]} holds only one of two LoRA factors for {', '.join(single)}")
    return factors


def _non_lora_entries(directory: Path) -> dict[str, Entry]:
    path = directory / "non_lora_trainables.bin"
    if not path.is_file():
        return {}

    def published(name: str) -> str:
        name = name.removeprefix("base_model.")
        return name.removeprefix("model.") if name.startswith("model.model.") else name

    file = open_file(path).renamed(published)
    return {name: file.entry(name) for name in file}
