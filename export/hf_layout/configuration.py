"""Writes the layout's configuration files: of the model, of generation, of images and of the processor.

A `LlavaForConditionalGeneration` comes nearest: its ONNX stages are the same three, and only the number of image tokens
is computed otherwise. transformers.js reads how images are prepared from `preprocessor_config.json`, transformers 5
from `processor_config.json`, and their classes that pad have different names.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import isqrt
from pathlib import Path
from typing import Any

from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.checkpoint.vision_config import VisionConfig
from mobilevlm.model.projectors import num_image_tokens

from .names import IMAGE_TOKEN, Variant

BICUBIC, LANCZOS = 3, 1  # Pillow's numbers
CLASS = "LlavaForConditionalGeneration"


def write_configuration(directory: Path, config: ModelConfig, image_token: int, variants: Sequence[Variant]) -> None:
    """Writes the files.

    Args:
        directory: receives them.
        config: the model.
        image_token: id of the token that an image's embeddings take the place of.
        variants: those there are, the most exact first.
    """
    image = _image_processor(config)
    files = {
        "config.json": _model(config, image_token, variants),
        "generation_config.json": {
            "bos_token_id": config.bos_token_id,
            "do_sample": False,
            "eos_token_id": config.eos_token_id,
            "max_length": config.max_position_embeddings,
            "pad_token_id": config.pad_token_id,
        },
        "preprocessor_config.json": _image_processor_js(config, image),
        "processor_config.json": _processor(config, image),
    }
    for name, values in files.items():
        (directory / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _model(config: ModelConfig, image_token: int, variants: Sequence[Variant]) -> dict[str, Any]:
    dtypes = [one.dtype for one in variants]
    ids = {"bos_token_id": config.bos_token_id, "eos_token_id": config.eos_token_id}
    return {
        "architectures": [CLASS],
        "model_type": "llava",
        "image_seq_length": num_image_tokens(config),
        "image_token_id": image_token,
        "image_token_index": image_token,
        "pad_token_id": config.pad_token_id,
        **ids,
        "projector_hidden_act": "gelu",
        "tie_word_embeddings": config.tie_word_embeddings,
        "vision_feature_layer": config.mm_vision_select_layer,
        "vision_feature_select_strategy": "default" if config.mm_vision_select_feature == "patch" else "full",
        "text_config": {
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "head_dim": config.head_dim,
            "hidden_act": "silu",
            "hidden_size": config.hidden_size,
            "intermediate_size": config.intermediate_size,
            "max_position_embeddings": config.max_position_embeddings,
            "num_attention_heads": config.num_attention_heads,
            "num_hidden_layers": config.num_hidden_layers,
            "num_key_value_heads": config.num_key_value_heads,
            "pad_token_id": config.pad_token_id,
            **ids,
            "rms_norm_eps": config.rms_norm_eps,
            "rope_theta": config.rope_theta,
            "tie_word_embeddings": config.tie_word_embeddings,
            "vocab_size": config.vocab_size,
        },
        "vision_config": _vision(config.tower),
        "transformers.js_config": {"use_external_data_format": True, "dtype": "q8" if "q8" in dtypes else dtypes[0]},
    }


def _vision(tower: VisionConfig) -> dict[str, Any]:
    names = ("hidden_act", "hidden_size", "image_size", "intermediate_size", "layer_norm_eps", "num_attention_heads")
    values = {name: getattr(tower, name) for name in (*names, "num_hidden_layers", "patch_size")}
    return {"model_type": "clip_vision_model", **values}


def _image_processor(config: ModelConfig) -> dict[str, Any]:
    """Preparation of an image in transformers' own words."""
    tower = config.tower
    return {
        "crop_size": {"height": tower.image_size, "width": tower.image_size},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(tower.image_mean),
        "image_std": list(tower.image_std),
        "resample": BICUBIC,
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": tower.shortest_edge or tower.image_size},
    }


def _image_processor_js(config: ModelConfig, image: dict[str, Any]) -> dict[str, Any]:
    """The same for transformers.js: its bicubic does not average when it shrinks, its Lanczos does.

    It pads behind normalising, so that the background colour is given as what that makes of it, and crops before it.
    """
    values = image | {"processor_class": "LlavaProcessor", "resample": LANCZOS}
    if config.image_aspect_ratio != "pad":
        return values | {"image_processor_type": "CLIPImageProcessor"}
    size, scale = config.tower.image_size, image["rescale_factor"]
    stats = zip(config.tower.image_mean, config.tower.image_std, strict=True)
    return values | {
        "image_processor_type": "VLMImageProcessor",
        "background_color": [(int(mean * 255) / 255 - mean) / std / scale for mean, std in stats],
        "do_center_crop": False,
        "do_pad": True,
        "image_size": size,
        "size": {"longest_edge": size},
        "pad_size": {"height": size, "width": size},
    }


def _processor(config: ModelConfig, image: dict[str, Any]) -> dict[str, Any]:
    """How many tokens an image has: patches of `patch_size` and some more."""
    tokens, size = num_image_tokens(config), config.tower.image_size
    side = isqrt(tokens)
    # The patch whose number is the projector's, where there is one; else the whole image is one patch.
    patch = size // side
    if (size // patch) ** 2 > tokens:
        patch = size
    pads = config.image_aspect_ratio == "pad"
    kind = {"image_processor_type": "LlavaImageProcessor", "do_pad": True} if pads else {}
    return {
        "image_processor": image | {"image_processor_type": "CLIPImageProcessor"} | kind,
        "image_token": IMAGE_TOKEN,
        "num_additional_image_tokens": tokens - (size // patch) ** 2,
        "patch_size": patch,
        "processor_class": "LlavaProcessor",
        "vision_feature_select_strategy": "full",
    }
