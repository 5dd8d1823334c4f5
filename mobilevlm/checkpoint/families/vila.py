"""VILA1.5: three folders, `llm/`, `vision_tower/` and `mm_projector/`, each with a configuration of its own.

https://huggingface.co/Efficient-Large-Model/VILA1.5-3b. Images are resized to the tower's square, whatever their shape.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..config_types import ConfigError, read_json
from ..vision_config import SIGLIP
from . import PROJECTOR, TOWER, Layout
from .transformers_defaults import LLAMA, described_tower, text_config

LLM, VISION, PROJECTOR_FOLDER = "llm", "vision_tower", "mm_projector"


def layout(raw: dict[str, Any], directory: Path) -> Layout:
    """Describes a checkpoint.

    Args:
        raw: the parsed `config.json`, which repeats the folders' own.
        directory: has the folders.

    Raises:
        ConfigError: an option that is not implemented.
    """
    parts = {folder: _part(raw, directory, folder, key) for folder, key in _KEYS.items()}
    preprocessor = directory / VISION / "preprocessor_config.json"
    vision = described_tower(parts[VISION], read_json(preprocessor) if preprocessor.is_file() else {})
    if raw.get("vision_resolution", -1) not in (-1, vision.image_size):
        raise ConfigError(
            f"config.json has vision_resolution {raw['vision_resolution']}, the tower {vision.image_size}: positions "
            "would have to be interpolated, which is not supported"
        )
    feature = raw.get("mm_vision_select_feature", "patch")
    if vision.model_type == SIGLIP and feature == "patch":
        raise ConfigError(
            "config.json has mm_vision_select_feature 'patch', with which VILA drops the first patch of a SigLIP "
            "tower; only 'cls_patch' is supported with SigLIP"
        )
    kept = ("image_aspect_ratio", "mm_use_im_start_end", "mm_use_im_patch_token", "mm_vision_select_layer")
    return Layout(
        text_config(parts[LLM], raw, LLAMA)
        | {key: raw[key] for key in kept if key in raw}
        | {
            "conv_mode": "vicuna_v1",
            "mm_hidden_size": vision.hidden_size,
            "mm_projector_type": parts[PROJECTOR_FOLDER].get("mm_projector_type"),
            "mm_vision_select_feature": feature,
        },
        vision,
        rename,
        folders={folder: f"{folder}." for folder in _KEYS},
        tokenizer=LLM,
    )


_KEYS = {LLM: "llm_cfg", VISION: "vision_tower_cfg", PROJECTOR_FOLDER: "mm_projector_cfg"}


def _part(raw: dict[str, Any], directory: Path, folder: str, key: str) -> dict[str, Any]:
    """Configuration of a folder: its own file, else what the checkpoint's repeats of it."""
    own = directory / folder / "config.json"
    found = read_json(own) if own.is_file() else raw.get(key)
    if not isinstance(found, dict):
        raise ConfigError(f"{directory} lacks {folder}/config.json: copy the folder {folder} of the checkpoint there")
    return found


def rename(name: str) -> str | None:
    """Name of a tensor behind its folder's to MobileVLM's."""
    folder, _, rest = name.partition(".")
    if folder == PROJECTOR_FOLDER:
        return f"{PROJECTOR}{rest.removeprefix('layers.')}"
    if folder == VISION:
        rest = rest.removeprefix("vision_model.")
        return None if rest.startswith("head.") else f"{TOWER}{rest}"
    return rest
