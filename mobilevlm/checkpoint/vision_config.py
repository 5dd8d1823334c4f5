"""A CLIP vision tower's sizes and preprocessing, read from its own files or known by its name."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from .config_types import ConfigError, check_types

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

WHERE = "the vision tower's configuration"


@dataclass(frozen=True)
class VisionConfig:
    """A CLIP vision tower and the preprocessing that belongs to it (the names are those of its own files)."""

    hidden_size: int = 1024
    intermediate_size: int = 4096
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    image_size: int = 336
    patch_size: int = 14
    layer_norm_eps: float = 1e-5
    hidden_act: str = "quick_gelu"
    image_mean: tuple[float, float, float] = CLIP_MEAN
    image_std: tuple[float, float, float] = CLIP_STD
    shortest_edge: int | None = None

    @property
    def grid(self) -> int:
        """Patches per side."""
        return self.image_size // self.patch_size

    @classmethod
    def from_files(cls, config: dict[str, Any], preprocessor: dict[str, Any] | None = None) -> VisionConfig:
        """Read a tower's own files.

        Args:
            config: the parsed `config.json`, of a CLIP vision model or of a whole CLIP (its `vision_config` counts).
            preprocessor: the parsed `preprocessor_config.json`, if the tower has one.

        Raises:
            ConfigError: a value has another type than its field, or is a size that cannot be.
        """
        known = {f.name for f in fields(cls)}
        config = config.get("vision_config") or config
        check_types(cls, config, WHERE)  # or what is no object
        values = {key: value for key, value in config.items() if key in known and value is not None}
        if preprocessor:
            values |= _preprocessing(preprocessor)
        return cls.from_dict(values)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> VisionConfig:
        """Inverse of `dataclasses.asdict`, with JSON's lists turned back into tuples."""
        check_types(cls, values, WHERE)
        if unknown := sorted(values.keys() - {f.name for f in fields(cls)}):
            raise ConfigError(f"{WHERE} has {unknown[0]}, which is no field of it")
        converted: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in values.items()
            if value is not None
        }
        return cls(**converted)

    def __post_init__(self) -> None:
        if self.image_size < self.patch_size:
            raise ConfigError(f"{WHERE} has image_size {self.image_size}, and patch_size {self.patch_size} is larger")
        if self.hidden_size % self.num_attention_heads:
            heads, size = self.num_attention_heads, self.hidden_size
            raise ConfigError(f"{WHERE} has hidden_size {size}, no multiple of num_attention_heads {heads}")


def _preprocessing(raw: dict[str, Any]) -> dict[str, Any]:
    """Fields of a `VisionConfig` that a `preprocessor_config.json` sets."""
    crop, size = raw.get("crop_size"), raw.get("size")
    values = {
        "image_mean": raw.get("image_mean"),
        "image_std": raw.get("image_std"),
        "image_size": crop.get("height", crop.get("shortest_edge")) if isinstance(crop, dict) else crop,
        "shortest_edge": size.get("shortest_edge") if isinstance(size, dict) else size,
    }
    return {key: value for key, value in values.items() if value is not None}


# What the files of these hub ids say (https://huggingface.co/openai/clip-vit-large-patch14-336), so that a checkpoint
# that names one of them loads with no network.
KNOWN_TOWERS = {
    "clip-vit-large-patch14-336": VisionConfig(),
    "clip-vit-large-patch14": VisionConfig(image_size=224),
}
