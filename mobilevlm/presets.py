"""Sizes by name, for `--random-weights` and training from nothing: the published ones, and the demo's.

Values: the published config files. The demo's grid of 12 x 12 patches is what LDPv2 pools to, its head is CLIP's and
LLaMA's usual 64, its widths are multiples of the 128 that int4 blocks have.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .checkpoint.config import KNOWN_TOWERS, ModelConfig, VisionConfig
from .checkpoint.vision_config import DEFAULTS, LANCZOS, SIGLIP


def _vlm(hidden_size: int, **changes: Any) -> ModelConfig:
    sizes: dict[int, dict[str, Any]] = {
        2048: dict(intermediate_size=5632, num_hidden_layers=24, num_attention_heads=16, max_sequence_length=2048),
        2560: dict(intermediate_size=6912, num_hidden_layers=32, num_attention_heads=32),
        4096: dict(intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32, rms_norm_eps=1e-5),
    }
    values: dict[str, Any] = sizes[hidden_size] | dict(
        hidden_size=hidden_size,
        num_key_value_heads=sizes[hidden_size]["num_attention_heads"],
        mm_projector_type="ldpnetv2",
        mm_hidden_size=1024,
        mm_vision_tower="openai/clip-vit-large-patch14-336",
        mm_use_im_patch_token=False,
        vision=KNOWN_TOWERS["clip-vit-large-patch14-336"],
    )
    return ModelConfig(**(values | changes))


def _smolvlm(hidden_size: int, tower: VisionConfig, factor: int, **changes: Any) -> ModelConfig:
    """Returns a SmolVLM: images in tiles of the tower's size, at most 4 x 4 of them."""
    vision = replace(
        tower, use_post_layernorm=True, resample=LANCZOS, longest_edge=4 * tower.image_size, do_image_splitting=True
    )
    values: dict[str, Any] = dict(
        hidden_size=hidden_size,
        head_dim=64,
        vocab_size=49280,
        rms_norm_eps=1e-5,
        rope_theta=100000,
        max_position_embeddings=8192,
        pad_token_id=2,
        conv_mode="smolvlm",
        image_aspect_ratio=None,
        mm_hidden_size=tower.hidden_size,
        mm_projector_type=f"pixel_shuffle{factor}x",
        mm_use_im_patch_token=False,
        mm_vision_select_feature="cls_patch",
        mm_vision_select_layer=-1,
        vision=vision,
    )
    return ModelConfig(**(values | changes))


_SIGLIP_512 = VisionConfig(768, 3072, 12, 12, image_size=512, patch_size=16, model_type=SIGLIP, **DEFAULTS[SIGLIP])


def text_only(vlm: ModelConfig) -> ModelConfig:
    """Returns the language model of a MobileVLM."""
    return ModelConfig.from_dict(replace(vlm, vision=None, mm_vision_tower=None).to_dict())


PRESETS: dict[str, ModelConfig] = {
    "mobilevlm_1.7b": _vlm(2048, mm_projector_type="ldpnet"),
    "mobilevlm_3b": _vlm(2560, mm_projector_type="ldpnet"),
    "mobilevlm_v2_1.7b": _vlm(2048),
    "mobilevlm_v2_3b": _vlm(2560),
    "mobilevlm_v2_7b": _vlm(4096, max_position_embeddings=4096),
    "mobilevlm_v2_demo": ModelConfig(
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=4,
        vocab_size=1024,
        torch_dtype="float16",
        mm_projector_type="ldpnetv2",
        mm_hidden_size=256,
        mm_vision_tower="vision_tower",
        mm_use_im_patch_token=False,
        vision=VisionConfig(256, 1024, num_hidden_layers=7, num_attention_heads=4, image_size=144, patch_size=12),
    ),
    "llava_1.5_7b": _vlm(4096, mm_projector_type="mlp2x_gelu", max_position_embeddings=4096, conv_mode="vicuna_v1"),
    "vila_1.5_3b": _vlm(
        2560,
        num_attention_heads=20,
        num_key_value_heads=20,
        rms_norm_eps=1e-5,
        max_position_embeddings=4096,
        conv_mode="vicuna_v1",
        image_aspect_ratio="resize",
        mm_projector_type="mlp_downsample",
        mm_hidden_size=1152,
        mm_vision_tower=None,
        mm_vision_select_feature="cls_patch",
        vision=KNOWN_TOWERS["siglip-so400m-patch14-384"],
    ),
    "smolvlm_256m": _smolvlm(
        576,
        _SIGLIP_512,
        4,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
    ),
    "smolvlm_500m": _smolvlm(
        960,
        _SIGLIP_512,
        4,
        intermediate_size=2560,
        num_hidden_layers=32,
        num_attention_heads=15,
        num_key_value_heads=5,
    ),
    "smolvlm2_2.2b": _smolvlm(
        2048,
        KNOWN_TOWERS["siglip-so400m-patch14-384"],
        3,
        intermediate_size=8192,
        num_hidden_layers=24,
        num_attention_heads=32,
        num_key_value_heads=32,
        rope_theta=130000,
    ),
    "mobilellama_1.4b": text_only(_vlm(2048)),
    "mobilellama_2.7b": text_only(_vlm(2560)),
}
