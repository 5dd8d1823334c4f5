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
from ..errors import utf_8_path
from ..text.open_tokenizer import open_tokenizer
from ..text.tokenizer import Tokenizer
from ..text.tokenizer_files import FAST, MODEL
from .config import ConfigError, ModelConfig, read_json
from .families import Layout, read_layout
from .fast_check import check_converted
from .hub import download, is_hub_id
from .lora import check_whole, is_lora, merged
from .sizes import check_sizes
from .tensors import CheckpointError, Tensors, open_directory
from .tower import choose_tower, find_beside, read_configuration
from .vocabulary import HEAD, with_one_head, with_token_rows


@dataclass(frozen=True)
class Checkpoint:
    """A model whose files were found and whose headers were read.

    Attributes:
        name: its directory's name, for messages and output directories.
        config: sizes, with `vocab_size` counting the control tokens.
        tensors: weights by their published names, with those of the chosen vision tower.
        tokenizer_dir: where `tokenizer.model` (or `tokenizer.json`) and its companions lie.
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
        tokenizer = open_tokenizer(self.tokenizer_dir)
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
    return _fitted(Checkpoint(directory.name, config, tensors, directory / layout.tokenizer, tower))


def _open_weights(directory: Path, layout: Layout) -> Tensors:
    """A checkpoint's tensors by MobileVLM's names, from all of its folders."""
    parts = {prefix: open_directory(directory / folder) for folder, prefix in layout.folders.items()}
    entries = {f"{prefix}{name}": part.entry(name) for prefix, part in parts.items() for name in part}
    return Tensors(entries).renamed(layout.rename)


def _directory(model: str | Path) -> Path:
    path = utf_8_path(model)
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
    source = _base(directory, base, adapter)
    base_layout = read_layout(read_json(source / "config.json"), source)
    layout, described = base_layout, source
    if (directory / "config.json").is_file():
        # The adapter's config.json describes the whole model: a V1 LoRA starts from a language model without vision.
        raw = read_json(directory / "config.json")
        check_whole(directory, raw)
        layout, described = read_layout(raw, directory), directory
    elif not base_layout.adapter_alone:
        raise CheckpointError(
            f"{directory} lacks config.json, the whole model's: training writes it, and non_lora_trainables.bin, "
            "beside the adapter at its end, not into a Trainer's checkpoint-N. Copy both there (from OUT of the run)"
        )
    config, tower = read_configuration(layout.config, described, layout.vision)
    tensors = merged(_open_weights(source, base_layout), directory, adapter, layout.rename)
    tensors, tower = choose_tower(config, tensors, tower, directory, keep_own=False)
    # The original's merge is a float16 checkpoint: rounding as it does gives its model, to the bit.
    tensors = tensors.converted(torch.float16)
    tokenizer = source / base_layout.tokenizer
    return _fitted(Checkpoint(directory.name, config, tensors, tokenizer, tower, source))


def _base(directory: Path, base: str | Path | None, adapter: dict[str, Any]) -> Path:
    """Directory of the model that a LoRA was trained on."""
    said = adapter.get("base_model_name_or_path") or ""
    if not isinstance(said, str):
        raise ConfigError(f"{directory / 'adapter_config.json'} has base_model_name_or_path {said!r}; a name is needed")
    named = str(base or said)
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
    if is_lora(source):
        merge = command("train/merge_lora.py", "BASE", source, "OUT")
        raise CheckpointError(f"the base {source} is a LoRA itself: merge it first with `{merge}`, and use OUT as base")
    return source


def _fitted(checkpoint: Checkpoint) -> Checkpoint:
    """Checkpoint whose configuration, weights and tokenizer were compared, with a row for every token."""
    where, files = checkpoint.name, checkpoint.tokenizer_dir
    check_sizes(checkpoint.config, checkpoint.tensors, where)
    check_converted(files)
    tensors = with_one_head(checkpoint.config, checkpoint.tensors, where)
    file = files / (MODEL if (files / MODEL).is_file() else FAST)
    config, tensors = with_token_rows(checkpoint.config, tensors, checkpoint.tokenizer(), str(file))
    return replace(checkpoint, config=config, tensors=tensors)


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
        if missing == [HEAD]:
            detail += ' (where the embedding is the head, too, config.json needs "tie_word_embeddings": true)'
        raise CheckpointError(f"the weights of {where} do not fit its config.json: {detail}")
