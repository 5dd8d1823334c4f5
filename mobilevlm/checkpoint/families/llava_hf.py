"""LLaVA-1.5 in transformers' layout (`LlavaForConditionalGeneration`), under the names of any version.

https://huggingface.co/llava-hf/llava-1.5-7b-hf. Text and vision configurations are nested and leave out what is
transformers' default; the tower is inside; the processor's files say how images are resized; `<image>` and `<pad>` are
tokens of a padded vocabulary, and the chat template has no system prompt.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..config_types import ConfigError
from ..vision_config import SIGLIP, VisionConfig
from . import PROJECTOR, TOWER, Layout
from .transformers_defaults import LLAMA, described_tower, image_processor, text_config

PROJECTOR_LAYERS = {"linear_1": "0", "linear_2": "2"}
# The only values that are implemented; absent ones have them.
COMPUTED = {"projector_hidden_act": "gelu", "multimodal_projector_bias": True}


def layout(raw: dict[str, Any], directory: Path) -> Layout:
    """Describes a checkpoint.

    Args:
        raw: the parsed `config.json`.
        directory: has the processor's files.

    Raises:
        ConfigError: an option that is not implemented.
    """
    for key, value in COMPUTED.items():
        if raw.get(key, value) != value:
            raise ConfigError(f"config.json has {key} {raw[key]!r}; only {value!r} is supported")
    layer = raw.get("vision_feature_layer", -2)
    if not isinstance(layer, int):
        raise ConfigError(f"config.json has vision_feature_layer {layer!r}; one layer is supported, not several")
    preprocessor = image_processor(directory)
    nested = raw.get("vision_config")
    vision = described_tower(nested, preprocessor) if nested else VisionConfig.from_files({}, preprocessor or None)
    whole = raw.get("vision_feature_select_strategy", "default") == "full"
    if vision.model_type == SIGLIP and not whole:
        raise ConfigError(
            "config.json has vision_feature_select_strategy 'default', which drops the first patch of a SigLIP tower; "
            "only 'full' is supported with SigLIP"
        )
    is_padded = preprocessor.get("do_pad") and "Llava" in str(preprocessor.get("image_processor_type"))
    return Layout(
        text_config(raw["text_config"], raw, LLAMA)
        | {
            "conv_mode": "llava_hf",
            "image_aspect_ratio": "pad" if is_padded else None,
            "mm_hidden_size": vision.hidden_size,
            "mm_projector_type": "mlp2x_gelu",
            "mm_use_im_patch_token": False,
            "mm_vision_select_feature": "cls_patch" if whole else "patch",
            "mm_vision_select_layer": layer,
        },
        vision,
        rename,
        adapter_alone=True,
    )


def rename(name: str) -> str | None:
    """Published name of a tensor to MobileVLM's."""
    part, _, rest = name.removeprefix("model.").partition(".")
    if part == "language_model":  # .model.layers… until transformers 4.51, .layers… behind model. since
        return rest if rest.startswith(("model.", "lm_head.")) else f"model.{rest}"
    if part == "multi_modal_projector":
        layer, _, kind = rest.partition(".")
        return f"{PROJECTOR}{PROJECTOR_LAYERS.get(layer, layer)}.{kind}"
    if part == "vision_tower":
        rest = rest.removeprefix("vision_model.")
        return None if rest.startswith("head.") else f"{TOWER}{rest}"
    return name
