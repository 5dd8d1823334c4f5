"""Opens a model: a directory in the published layout, a LoRA directory, or a hub id.

Opening reads headers only. It chooses the vision tower, merges a LoRA into its base, appends the embedding rows of
control tokens, and returns one `Checkpoint`: configuration, tokenizer directory and lazily read tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..commands import command
from ..errors import user_path
from ..text.tokenizer import Tokenizer
from .config import ModelConfig, read_json
from .families import Layout, read_layout
from .hub import download, is_hub_id
from .lora import is_lora, merged
from .tensors import CheckpointError, Entry, Tensors, open_directory
from .tower import choose_tower, find_beside, read_configuration

TOKENIZER_FILES = ("tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


@dataclass(frozen=True)
class Checkpoint:
    """A model whose files were found and whose headers were read.

    Attributes:
        name: its directory's name, for messages and output directories.
        config: sizes, with `vocab_size` counting the control tokens.
        tensors: weights by their published names, with those of the chosen vision tower.
        tokenizer_dir: where `tokenizer.model` and its companions lie.
        tower_dir: the vision tower's directory; None when its configuration is known here.
        base_dir: for a LoRA, the model it was merged into.
    """

    name: str
    config: ModelConfig
    tensors: Tensors
    tokenizer_dir: Path
    tower_dir: Path | None = None
    base_dir: Path | None = None

    def tokenizer(self) -> Tokenizer:
        """The tokenizer, with the control tokens of the configuration added."""
        tokenizer = Tokenizer(self.tokenizer_dir)
        tokenizer.add_tokens(self.config.control_tokens)
        return tokenizer


def open_checkpoint(
    model: str | Path, base: str | Path | None = None, changes: Mapping[str, Any] | None = None
) -> Checkpoint:
    """Open a model by directory or hub id.

    Args:
        model: a directory in the published layout (`config.json`, weights, `tokenizer.model`), a LoRA directory
            (`adapter_config.json`, adapter weights, `non_lora_trainables.bin`), or a hub id such as
            `mtgv/MobileVLM_V2-1.7B`.
        base: for a LoRA directory, the model it was trained on, when not where `adapter_config.json` says.
        changes: what training changes in `config.json`; an `mm_vision_tower` in it wins over the checkpoint's own.

    Raises:
        CheckpointError: files are missing or cannot be read.
        ConfigError: the configuration asks for something that is not supported.
        TokenizerError: the tokenizer is missing, broken, or of another model.
    """
    directory = _directory(model)
    changes = dict(changes or {})
    if is_lora(directory):
        if changes:
            merge = command("train/merge_lora.py", base or "BASE", model, "OUT")
            raise CheckpointError(f"{model} is a LoRA: merge it first with `{merge}`, and start from OUT")
        return _open_lora(directory, base)
    if base is not None:
        raise CheckpointError(f"{model} is no LoRA (it has no adapter_config.json): it takes no base model")
    layout = read_layout(read_json(directory / "config.json"), directory)
    config, tower = read_configuration(layout.config | changes, directory, layout.vision)
    tensors = _open_weights(directory, layout)
    keep_own = config.uses_checkpoint_tower and "mm_vision_tower" not in changes
    tensors, tower = choose_tower(config, tensors, tower, directory, keep_own)
    return _with_control_tokens(Checkpoint(directory.name, config, tensors, directory / layout.tokenizer, tower))


def _open_weights(directory: Path, layout: Layout) -> Tensors:
    """A checkpoint's tensors by MobileVLM's names, from all of its folders."""
    parts = {prefix: open_directory(directory / folder) for folder, prefix in layout.folders.items()}
    entries = {f"{prefix}{name}": part.entry(name) for prefix, part in parts.items() for name in part}
    return Tensors(entries).renamed(layout.rename)


def _directory(model: str | Path) -> Path:
    path = user_path(model)
    is_gguf = path.suffix == ".gguf"
    if is_gguf or (path.is_dir() and not (path / "config.json").exists() and any(path.glob("*.gguf"))):
        raise CheckpointError(
            f"{model} {'is a GGUF file' if is_gguf else 'holds GGUF files'}, whose weights are quantised already: give "
            "the directory or hub id of the float16 checkpoint that was quantised"
        )
    if path.is_dir():
        return path.resolve()
    if path.exists():
        raise CheckpointError(f"{model} is a file; give the directory of the checkpoint (it holds config.json)")
    if is_hub_id(str(model)):
        return download(str(model))
    raise CheckpointError(
        f"{model} does not exist; give a checkpoint directory or a hub id like mtgv/MobileVLM_V2-1.7B"
    )


def _open_lora(directory: Path, base: str | Path | None) -> Checkpoint:
    """Open a LoRA directory as the model that it makes of its base."""
    adapter = read_json(directory / "adapter_config.json")
    named = str(base or adapter.get("base_model_name_or_path") or "")
    found = find_beside(named, directory) if named else None
    beside = directory.parent / "base"
    if found is None and base is None and not is_hub_id(named) and beside.is_dir():
        found = beside  # adapters name a path of the machine they were trained on
    if found is None and not is_hub_id(named):
        raise CheckpointError(
            f"{directory} is a LoRA on {named!r}, which is not there: name its base model with --base DIR "
            f"(base= in Python), or put it at {beside}"
        )
    source = _directory(found or named)
    layout = base_layout = read_layout(read_json(source / "config.json"), source)
    if (directory / "config.json").is_file():
        # The adapter's config.json describes the whole model: a V1 LoRA starts from a language model without vision.
        layout = read_layout(read_json(directory / "config.json"), directory)
    config, tower = read_configuration(layout.config, directory, layout.vision)
    tensors = merged(_open_weights(source, base_layout), directory, adapter, layout.rename)
    tensors, tower = choose_tower(config, tensors, tower, directory, keep_own=False)
    # The original's merge is a float16 checkpoint: rounding as it does gives its model, to the bit.
    tensors = tensors.converted(torch.float16)
    tokenizer = source / base_layout.tokenizer
    return _with_control_tokens(Checkpoint(directory.name, config, tensors, tokenizer, tower, source))


def _with_control_tokens(checkpoint: Checkpoint) -> Checkpoint:
    """Check the tokenizer against the embedding, and append the rows of control tokens that the weights lack."""
    config, tokenizer = checkpoint.config, checkpoint.tokenizer()
    pieces = len(Tokenizer(checkpoint.tokenizer_dir))
    rows, wanted = config.vocab_size, len(tokenizer)
    if pieces > rows or wanted <= rows - 128:  # up to a multiple of 128 is padding
        raise CheckpointError(
            f"{checkpoint.tokenizer_dir / 'tokenizer.model'} has {pieces} tokens, but the model has {rows} embedding "
            "rows (config.json vocab_size): this is another model's tokenizer, copy the right one there"
        )
    if wanted <= rows:
        return checkpoint
    names = [name for name in ("model.embed_tokens.weight", "lm_head.weight") if name in checkpoint.tensors]
    grown = {name: _grown(checkpoint.tensors, name, wanted - rows) for name in names}
    return replace(checkpoint, config=replace(config, vocab_size=wanted), tensors=checkpoint.tensors.replaced(grown))


def _grown(tensors: Tensors, name: str, rows: int) -> Entry:
    """A weight (V, D) with further rows at its end, each the mean of the old ones."""
    old_rows, columns = tensors.entry(name).shape

    def read() -> torch.Tensor:
        weight = tensors[name]
        # The mean of the old rows, as the original initialises its start and end tokens.
        mean = weight.float().mean(0, keepdim=True).to(weight.dtype)
        return torch.cat([weight, mean.expand(rows, -1)])

    return Entry((old_rows + rows, columns), read)


def check_tensors(tensors: Tensors, expected: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Compare names and shapes of a checkpoint with what the model needs, before anything is loaded.

    Args:
        tensors: the checkpoint's.
        expected: shapes by published name, see `expected_shapes` in `mobilevlm.model.model`.
        where: what to call the checkpoint in the message.

    Raises:
        CheckpointError: the message names every missing, unexpected and misshapen tensor, with both shapes.
    """
    missing = sorted(set(expected) - set(tensors))
    extra = sorted(set(tensors) - set(expected))
    shapes = ((name, tensors.entry(name).shape) for name in sorted(set(expected) & set(tensors)))
    misshapen = [f"{name} is {shape}, needs {expected[name]}" for name, shape in shapes if shape != expected[name]]
    parts = {"missing": missing, "unexpected": extra, "misshapen": misshapen}
    if any(parts.values()):
        detail = "; ".join(f"{len(names)} {kind}: {', '.join(names)}" for kind, names in parts.items() if names)
        raise CheckpointError(f"the weights of {where} do not fit its config.json: {detail}")
