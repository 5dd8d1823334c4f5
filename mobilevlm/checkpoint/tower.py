"""Chooses the vision tower of a checkpoint: its own weights, or those of the directory or hub id that it names."""

from __future__ import annotations

from pathlib import Path, PureWindowsPath
from typing import Any

from ..errors import user_path
from .config import KNOWN_TOWERS, ConfigError, ModelConfig, VisionConfig, read_json
from .hub import HUB_TOWER_OWNERS, download
from .path_names import can_be_path
from .tensors import WEIGHT_NAMES, CheckpointError, Tensors, open_directory

TOWER_PREFIX = "model.vision_tower.vision_tower."
TOWER_FILES = ("config.json", "preprocessor_config.json", "model.safetensors", "pytorch_model.bin")


def find_beside(name: str, directory: Path) -> Path | None:
    """Look for a directory that a checkpoint names.

    Args:
        name: absolute, or relative to the working directory, the checkpoint's directory or one of its two parents.
        directory: the checkpoint's.

    Returns:
        The first directory that exists, or None.

    Raises:
        ConfigError: the name cannot be a path's.
    """
    if not can_be_path(name):
        raise ConfigError(f"a file in {directory} names {name[:80]!r}, which no path can be")
    return next((place.resolve() for place in _places(name, directory) if place.is_dir()), None)


def _places(name: str, directory: Path) -> list[Path]:
    first, roots = user_path(name), (directory, *directory.parents[:2])
    if is_elsewhere(name):  # a path of the machine it was trained on: here it may lie beside the checkpoint
        return [first, *(root / last_part(name) for root in roots if last_part(name))]
    return [first, *(root / name for root in roots)]


def is_elsewhere(name: str) -> bool:
    """Whether a name is an absolute path, of this or another system."""
    return Path(name).is_absolute() or user_path(name).is_absolute() or PureWindowsPath(name).is_absolute()


def last_part(name: str) -> str:
    """Last part of a path of any system (a Windows path takes both kinds of slashes)."""
    return PureWindowsPath(name).name


def read_configuration(
    raw: dict[str, Any], directory: Path, vision: VisionConfig | None = None
) -> tuple[ModelConfig, Path | None]:
    """Read a checkpoint's `config.json` together with the files of its vision tower.

    Args:
        raw: the parsed `config.json`.
        directory: the checkpoint's.
        vision: the tower where no `mm_vision_tower` names one; None for a text-only model.

    Returns:
        The configuration and, where the tower is a directory on this machine, that directory.

    Raises:
        ConfigError: the configuration asks for something that is not supported.
        CheckpointError: the tower is neither known nor here, and cannot be fetched.
    """
    name = raw.get("mm_vision_tower")
    if name is not None and not isinstance(name, str):
        raise ConfigError(f"config.json has mm_vision_tower {name!r}; a directory or hub id is needed")
    if not name:
        return ModelConfig.from_published(raw, vision), None
    tower = find_beside(name, directory)
    if tower is not None and (tower / "config.json").is_file():
        preprocessor = tower / "preprocessor_config.json"
        vision = VisionConfig.from_files(
            read_json(tower / "config.json"), read_json(preprocessor) if preprocessor.is_file() else None
        )
        return ModelConfig.from_published(raw, vision), tower
    known = KNOWN_TOWERS.get(last_part(name))
    if known is not None:
        return ModelConfig.from_published(raw, known), None
    tower = _tower_from_hub(name, directory)
    return read_configuration(raw | {"mm_vision_tower": str(tower)}, directory)


def _tower_from_hub(name: str, directory: Path) -> Path:
    """Directory of a vision tower that is not on this machine, once it is fetched."""
    if name.startswith(HUB_TOWER_OWNERS):
        return download(name, allow=TOWER_FILES, put_at=directory / name)
    looked = [place.absolute() for place in _places(name, directory)]
    raise CheckpointError(
        f"the vision tower {name!r} that {directory / 'config.json'} names (mm_vision_tower) is not there. Looked in "
        f"{', '.join(map(str, dict.fromkeys(looked)))}. Put its config.json, preprocessor_config.json and weights there"
    )


def choose_tower(
    config: ModelConfig, tensors: Tensors, tower: Path | None, directory: Path, keep_own: bool
) -> tuple[Tensors, Path | None]:
    """Choose the vision tower by the original's rule: the checkpoint's own, or that of `mm_vision_tower`.

    Args:
        config: the checkpoint's.
        tensors: the checkpoint's, with or without a vision tower.
        tower: directory of the named tower, if that is on this machine; the hub is asked only for one that the
            checkpoint lacks.
        directory: the checkpoint's.
        keep_own: a tower inside the checkpoint is kept; otherwise it is replaced where the named one has weights.

    Returns:
        The tensors with the chosen tower, and the directory that it came from.

    Raises:
        CheckpointError: the tower is needed but neither here nor can it be fetched.
    """
    has_own = any(name.startswith(TOWER_PREFIX) for name in tensors)
    # A tower directory that came along with a checkpoint of its own weights holds a description only.
    to_reload = tower is not None and any((tower / name).is_file() for name in WEIGHT_NAMES)
    if not config.mm_vision_tower or (has_own and (keep_own or not to_reload)):
        return tensors, tower
    tower = tower or _tower_from_hub(config.mm_vision_tower, directory)
    return _with_tower(tensors, tower), tower


def _with_tower(tensors: Tensors, tower: Path) -> Tensors:
    """The tensors with the vision tower replaced by that of a directory."""

    def published(name: str) -> str | None:
        name = name.removeprefix("vision_model.")
        # transformers 5 saves a bare vision model without the prefix; a full one also holds its text half and a head.
        bare = ("embeddings.", "encoder.", "pre_layrnorm.", "post_layernorm.")
        return f"{TOWER_PREFIX}vision_model.{name}" if name.startswith(bare) else None

    vision = open_directory(tower).renamed(published)
    own = tensors.renamed(lambda name: None if name.startswith(TOWER_PREFIX) else name)
    return own.replaced({name: vision.entry(name) for name in vision})
