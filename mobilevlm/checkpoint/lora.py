"""Merges a LoRA directory of the original, an adapter and the fully trained projector, while its tensors are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from .tensors import CheckpointError, Entry, Tensors, open_file

PEFT_PREFIX = "base_model.model."


def is_lora(directory: Path) -> bool:
    """Whether a directory holds an adapter rather than a model."""
    return (directory / "adapter_config.json").is_file()


def merged(
    base: Tensors, directory: Path, adapter: dict[str, Any], rename: Callable[[str], str | None] = lambda name: name
) -> Tensors:
    """Merge a LoRA: each tensor is computed when it is read, as base + scale * (B @ A) in float32.

    Args:
        base: tensors of the model that the LoRA was trained on.
        directory: holds the adapter's weights and perhaps `non_lora_trainables.bin`, whose tensors replace the base's.
        adapter: the parsed `adapter_config.json`.
        rename: published name of a weight to the base's (see `families.Layout`).

    Returns:
        The base's tensors with the LoRA in them; the changed ones are float32.

    Raises:
        CheckpointError: the adapter is of a kind the original does not write, or does not fit the base.
    """
    scale = _scale(directory, adapter)
    factors = {rename(name) or name: pair for name, pair in _adapter_factors(directory).items()}
    absent = sorted(name for name in factors if name not in base)
    if absent:
        raise CheckpointError(f"the LoRA in {directory} changes tensors its base lacks: {', '.join(absent)}")
    for name, ((down, down_key), (up, up_key)) in factors.items():
        (rank, columns), (rows, up_rank) = down.entry(down_key).shape, up.entry(up_key).shape
        if (rows, columns) != base.entry(name).shape or rank != up_rank:
            raise CheckpointError(
                f"the LoRA in {directory} has factors ({rows}, {up_rank}) x ({rank}, {columns}) for {name}, which is "
                f"{base.entry(name).shape} in its base: this is another model's LoRA"
            )

    def entry(name: str) -> Entry:
        def read() -> torch.Tensor:
            down, up = (file[key].float() for file, key in factors[name])
            return torch.addmm(base[name].float(), up, down, alpha=scale)

        return Entry(base.entry(name).shape, read)

    changes = {name: entry(name) for name in factors}
    return base.replaced(changes | _non_lora_entries(directory, rename))


# Settings of peft that change what an adapter means, and that the original never uses.
UNSUPPORTED = ("fan_in_fan_out", "use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save")


def _scale(directory: Path, adapter: dict[str, Any]) -> float:
    """Factor of B @ A: lora_alpha / r."""
    where = directory / "adapter_config.json"
    used = [name for name in UNSUPPORTED if adapter.get(name)]
    if adapter.get("peft_type") != "LORA" or adapter.get("bias", "none") != "none" or used:
        raise CheckpointError(f"{where} is no plain LoRA ({', '.join(used) or 'type or bias'}): it cannot be merged")
    alpha, rank = adapter.get("lora_alpha"), adapter.get("r")
    if not isinstance(alpha, (int, float)) or not isinstance(rank, int) or rank < 1:
        raise CheckpointError(f"{where} has r {rank!r} and lora_alpha {alpha!r}: two positive numbers are needed")
    return alpha / rank


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


def _non_lora_entries(directory: Path, rename: Callable[[str], str | None]) -> dict[str, Entry]:
    """Tensors that were trained whole beside the adapter, by their published names."""
    path = directory / "non_lora_trainables.bin"
    if not path.is_file():
        return {}

    def published(name: str) -> str:
        name = name.removeprefix("base_model.")
        return name.removeprefix("model.") if name.startswith("model.model.") else name

    file = open_file(path).renamed(lambda name: rename(published(name)))
    return {name: file.entry(name) for name in file}
