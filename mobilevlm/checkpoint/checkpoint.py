"""Opens what a person calls "the model": a directory in the published layout, a LoRA directory, or a hub id.

Opening reads headers only. It decides which vision tower counts, puts a LoRA on its base, adds the rows of control
tokens, and hands back one `Checkpoint`: configuration, tokenizer directory and lazily read tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..errors import user_path
from ..text.tokenizer import Tokenizer
from .config import KNOWN_TOWERS, ConfigError, ModelConfig, VisionConfig, read_json
from .hub import HUB_TOWER_OWNERS, download, is_hub_id
from .lora import is_lora, merged
from .tensors import WEIGHT_NAMES, CheckpointError, Entry, Tensors, open_directory

TOWER_PREFIX = "model.vision_tower.vision_tower."
TOKENIZER_FILES = ("tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
TOWER_FILES = ("config.json", "preprocessor_config.json", "model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class Checkpoint:
    """A model ready to be read.

    Attributes:
        name: what to call it in messages and output directories.
        config: sizes, with `vocab_size` counting the control tokens.
        tensors: weights by their published names, including those of the tower that counts.
        tokenizer_dir: where `tokenizer.model` and its companions lie.
        tower_dir: the vision tower's directory; None when its configuration is known here.
        base_dir: for a LoRA, the model it was put on.
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
            raise CheckpointError(f"{model} is a LoRA: merge it first, python train/merge_lora.py BASE {model} OUT")
        return _open_lora(directory, base)
    if base is not None:
        raise CheckpointError(f"{model} is no LoRA (it has no adapter_config.json): it takes no base model")
    raw = read_json(directory / "config.json") | changes
    config, tower = _configuration(raw, directory)
    tensors = open_directory(directory)
    keep_own = config.uses_checkpoint_tower and "mm_vision_tower" not in changes
    tensors, tower = _choose_tower(config, tensors, tower, directory, keep_own)
    return _with_control_tokens(Checkpoint(directory.name, config, tensors, directory, tower))


def _directory(model: str | Path) -> Path:
    path = user_path(model)
    if path.is_dir():
        return path.resolve()
    if path.exists():
        raise CheckpointError(f"{model} is a file; give the directory of the checkpoint (it holds config.json)")
    if is_hub_id(str(model)):
        return download(str(model))
    raise CheckpointError(
        f"{model} does not exist; give a checkpoint directory or a hub id like mtgv/MobileVLM_V2-1.7B"
    )


def find_beside(name: str, directory: Path) -> Path | None:
    """Look for a relative directory: from the working directory, beside the checkpoint's files, in its parents.

    Returns:
        The first directory that exists, or None.
    """
    return next((place.resolve() for place in _places(name, directory) if place.is_dir()), None)


def _places(name: str, directory: Path) -> list[Path]:
    first = user_path(name)
    return [first] if first.is_absolute() else [first, *(root / name for root in (directory, *directory.parents[:2]))]


def _configuration(raw: dict, directory: Path) -> tuple[ModelConfig, Path | None]:
    """The configuration and, if there is a local one, the directory of its vision tower."""
    name = raw.get("mm_vision_tower")
    if name is not None and not isinstance(name, str):
        raise ConfigError(f"config.json has mm_vision_tower {name!r}; a directory or hub id is needed")
    if not name:
        return ModelConfig.from_published(raw, vision=None), None
    tower = find_beside(name, directory)
    if tower is not None and (tower / "config.json").is_file():
        preprocessor = tower / "preprocessor_config.json"
        vision = VisionConfig.from_files(
            read_json(tower / "config.json"), read_json(preprocessor) if preprocessor.is_file() else None
        )
        return ModelConfig.from_published(raw, vision), tower
    known = KNOWN_TOWERS.get(Path(name).name)
    if known is not None:
        return ModelConfig.from_published(raw, known), None
    tower = _tower_from_hub(name, directory)
    return _configuration(raw | {"mm_vision_tower": str(tower)}, directory)


def _tower_from_hub(name: str, directory: Path) -> Path:
    if name.startswith(HUB_TOWER_OWNERS):
        return download(name, allow=TOWER_FILES, put_at=directory / name)
    looked = [place.absolute() for place in _places(name, directory)]
    raise CheckpointError(
        f"the vision tower {name!r} that {directory / 'config.json'} names (mm_vision_tower) is not there. Looked in "
        f"{', '.join(map(str, dict.fromkeys(looked)))}. Put its config.json, preprocessor_config.json and weights there"
    )


def _choose_tower(
    config: ModelConfig, tensors: Tensors, tower: Path | None, directory: Path, keep_own: bool
) -> tuple[Tensors, Path | None]:
    """The original's rule: some checkpoints keep their own tower, others have it reloaded from `mm_vision_tower`.

    One that is on this machine is reloaded; the hub is asked only for one the checkpoint lacks. Returns the tensors
    with the tower that counts, and the directory it came from.
    """
    has_own = any(name.startswith(TOWER_PREFIX) for name in tensors)
    # A tower directory that came along with a checkpoint of its own weights holds a description only.
    to_reload = tower is not None and any((tower / name).is_file() for name in WEIGHT_NAMES)
    if config.vision is None or (has_own and (keep_own or not to_reload)):
        return tensors, tower
    tower = tower or _tower_from_hub(config.mm_vision_tower, directory)
    return _with_tower(tensors, tower), tower


def _with_tower(tensors: Tensors, tower: Path) -> Tensors:
    def published(name: str) -> str | None:
        if name.startswith("vision_model."):
            return TOWER_PREFIX + name
        # transformers 5 saves a bare CLIP vision model without the prefix; a full CLIP also holds its text half.
        bare = ("embeddings.", "encoder.", "pre_layrnorm.", "post_layernorm.")
        return f"{TOWER_PREFIX}vision_model.{name}" if name.startswith(bare) else None

    vision = open_directory(tower).renamed(published)
    own = tensors.renamed(lambda name: None if name.startswith(TOWER_PREFIX) else name)
    return own.replaced({name: vision.entry(name) for name in vision})


def _open_lora(directory: Path, base: str | Path | None) -> Checkpoint:
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
    # The adapter's config.json describes the whole model: a V1 LoRA starts from a language model without vision.
    config, tower = _configuration(read_json(directory / "config.json"), directory)
    tensors = merged(open_directory(source), directory, adapter)
    tensors, tower = _choose_tower(config, tensors, tower, directory, keep_own=False)
    # The original's merge is a float16 checkpoint: rounding as it does gives its model, to the bit.
    tensors = tensors.converted(torch.float16)
    return _with_control_tokens(Checkpoint(directory.name, config, tensors, source, tower, source))


def _with_control_tokens(checkpoint: Checkpoint) -> Checkpoint:
    """Check the tokenizer against the embedding, and append rows for control tokens the file has none for."""
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
    old_rows, columns = tensors.entry(name).shape

    def read() -> torch.Tensor:
        weight = tensors[name]
        # The mean of the old rows, as the original initialises its start and end tokens.
        mean = weight.float().mean(0, keepdim=True).to(weight.dtype)
        return torch.cat([weight, mean.expand(rows, -1)])

    return Entry((old_rows + rows, columns), read)


def check_tensors(tensors: Tensors, expected: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Compare names and shapes with what the model needs, before anything is loaded.

    Raises:
        CheckpointError: naming every missing, unexpected and misshapen tensor, with both shapes.
    """
    missing = sorted(set(expected) - set(tensors))
    extra = sorted(set(tensors) - set(expected))
    shapes = ((name, tensors.entry(name).shape) for name in sorted(set(expected) & set(tensors)))
    misshapen = [f"{name} is {shape}, needs {expected[name]}" for name, shape in shapes if shape != expected[name]]
    parts = {"missing": missing, "unexpected": extra, "misshapen": misshapen}
    if any(parts.values()):
        detail = "; ".join(f"{len(names)} {kind}: {', '.join(names)}" for kind, names in parts.items() if names)
        raise CheckpointError(f"the weights of {where} do not fit its config.json: {detail}")
