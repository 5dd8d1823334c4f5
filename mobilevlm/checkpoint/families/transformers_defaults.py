"""Nested configurations of transformers, which leave out what is its default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..config_types import ConfigError, read_json
from ..vision_config import CLIP, SIGLIP, VisionConfig

LLAMA: dict[str, Any] = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 32000,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 2048,
}
_SMALL_TOWER = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
TOWERS: dict[str, dict[str, Any]] = {
    CLIP: _SMALL_TOWER | {"image_size": 224, "patch_size": 32},
    SIGLIP: _SMALL_TOWER | {"image_size": 224, "patch_size": 16},
}


def text_config(nested: dict[str, Any], whole: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Keys of a MobileVLM's `config.json` that describe the decoder.

    Args:
        nested: the decoder's configuration.
        whole: the checkpoint's, which has the weights' type.
        defaults: what a key that the decoder's leaves out means.

    Raises:
        ConfigError: the decoder is no LLaMA.
    """
    if nested.get("model_type", "llama") != "llama":
        raise ConfigError(f"the decoder's model_type is {nested['model_type']!r}; llama is supported")
    values = defaults | {key: value for key, value in nested.items() if value is not None}
    dtypes = (part.get(key) for part in (whole, nested) for key in ("torch_dtype", "dtype", "model_dtype"))
    dtype = next((str(name).removeprefix("torch.") for name in dtypes if name), "float32")
    tied = whole.get("tie_word_embeddings") or nested.get("tie_word_embeddings") or False
    return values | {"model_type": "mobilevlm", "torch_dtype": dtype, "tie_word_embeddings": tied}


def described_tower(nested: dict[str, Any], preprocessor: dict[str, Any]) -> VisionConfig:
    """The vision tower of a nested configuration.

    Args:
        nested: the tower's configuration.
        preprocessor: its image processor's settings, empty where the files have none.

    Raises:
        ConfigError: the tower is no CLIP or SigLIP, or its images are preprocessed in another way.
    """
    defaults = TOWERS.get(str(nested.get("model_type", CLIP)), {})
    return VisionConfig.from_files(defaults | nested, preprocessor or None)


def image_processor(directory: Path) -> dict[str, Any]:
    """The image processor's settings: a file of their own, or a part of the processor's; empty where there are none."""
    own, joint = directory / "preprocessor_config.json", directory / "processor_config.json"
    if own.is_file():
        return read_json(own)
    part = read_json(joint).get("image_processor") if joint.is_file() else None
    return part if isinstance(part, dict) else {}
