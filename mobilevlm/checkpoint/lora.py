"""Merges a LoRA directory of the original, an adapter and the fully trained projector, while its tensors are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from .tensors import CheckpointError, Entry, Tensors, open_file
from .wrapped_names import published_names

NON_LORA = "non_lora_trainables.bin"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


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
    _check_rank(directory, adapter, factors)
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
UNSUPPORTED = (
    *("fan_in_fan_out", "use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save"),
    *("lora_bias", "layer_replication", "trainable_token_indices", "target_parameters"),
)
LARGEST_ALPHA = 2**20


def check_whole(directory: Path, raw: dict[str, Any]) -> None:
    """Refuse a LoRA whose projector was trained beside it and left behind: the base's would be used without a word.

    Args:
        directory: of the LoRA.
        raw: its `config.json`.

    Raises:
        CheckpointError: `non_lora_trainables.bin` is missing, naming what to do where there never was one.
    """
    if (directory / NON_LORA).is_file() or not raw.get("mm_vision_tower") or raw.get("freeze_mm_mlp_adapter") is True:
        return
    raise CheckpointError(
        f"{directory} lacks {NON_LORA}, in which training leaves the projector that it trained beside the LoRA: copy "
        'it there too. If the projector was not trained, write "freeze_mm_mlp_adapter": true into '
        f"{directory / 'config.json'}: the base's is used then"
    )


def _scale(directory: Path, adapter: dict[str, Any]) -> float:
    """Factor of B @ A: lora_alpha / r."""
    where = directory / "adapter_config.json"
    used = [name for name in UNSUPPORTED if adapter.get(name)]
    if adapter.get("peft_type") != "LORA" or adapter.get("bias", "none") != "none" or used:
        raise CheckpointError(f"{where} is no plain LoRA ({', '.join(used) or 'type or bias'}): it cannot be merged")
    alpha, rank = adapter.get("lora_alpha"), adapter.get("r")
    good_rank = isinstance(rank, int) and not isinstance(rank, bool) and rank > 0
    good_alpha = isinstance(alpha, (int, float)) and not isinstance(alpha, bool) and 0 < abs(alpha) <= LARGEST_ALPHA
    if not good_rank or not good_alpha:
        raise CheckpointError(
            f"{where} has r {str(rank)[:40]} and lora_alpha {str(alpha)[:40]}: two positive numbers are needed"
        )
    return float(adapter["lora_alpha"]) / int(adapter["r"])


def _check_rank(directory: Path, adapter: dict[str, Any], factors: dict[str, list[tuple[Tensors, str]]]) -> None:
    """Refuse factors of another rank than the configuration's, by which they would be scaled."""
    for name, (_, (up, key)) in factors.items():
        if (found := up.entry(key).shape[1]) != adapter["r"]:
            raise CheckpointError(
                f"{directory / 'adapter_config.json'} has r {adapter['r']}, but the factors of {name} have rank "
                f"{found}: the two files belong to different LoRAs"
            )


def _adapter_factors(directory: Path) -> dict[str, list[tuple[Tensors, str]]]:
    """Weight name to its two factors, A (r, in) and B (out, r), as (file, key)."""
    found = [directory / name for name in WEIGHTS if (directory / name).is_file()]
    if not found:
        raise CheckpointError(f"{directory} lacks its adapter weights: {' or '.join(WEIGHTS)}")
    file = open_file(found[0])
    names = published_names(list(file), str(found[0]))
    factors: dict[str, list[tuple[Tensors, str]]] = {}
    unknown = [key for key in file if not names[key].endswith((".lora_A.weight", ".lora_B.weight"))]
    if unknown or not names:
        raise CheckpointError(
            f"{found[0]} holds tensors that are no LoRA factors: {', '.join(sorted(unknown)) or 'it has none'}"
        )
    for key in sorted(file):  # A sorts before B
        shape = file.entry(key).shape
        if len(shape) != 2:
            raise CheckpointError(f"{found[0]} holds {key} of shape {shape}; LoRA factors have two dimensions")
        weight = names[key].replace(".lora_A.weight", ".weight").replace(".lora_B.weight", ".weight")
        factors.setdefault(weight, []).append((file, key))
    single = sorted(weight for weight, pair in factors.items() if len(pair) != 2)
    if single:
        raise CheckpointError(f"{found[0]} holds only one of two LoRA factors for {', '.join(single)}")
    return factors


def _non_lora_entries(directory: Path, rename: Callable[[str], str | None]) -> dict[str, Entry]:
    """Tensors that were trained whole beside the adapter, by their published names."""
    path = directory / NON_LORA
    if not path.is_file():
        return {}
    file = open_file(path)
    names = published_names(list(file), str(path))

    def published(name: str) -> str:
        name = names[name].removeprefix("base_model.")
        return name.removeprefix("model.") if name.startswith("model.model.") else name

    renamed = file.renamed(lambda name: rename(published(name)))
    return {name: renamed.entry(name) for name in renamed}
