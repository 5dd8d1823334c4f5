"""The published sizes, by name: for `--random-weights` and training from nothing. Values: upstream's config files."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .config import KNOWN_TOWERS, ModelConfig


def _vlm(hidden_size: int, **changes: Any) -> ModelConfig:
    sizes = {
        2048: dict(intermediate_size=5632, num_hidden_layers=24, num_attention_heads=16, max_sequence_length=2048),
        2560: dict(intermediate_size=6912, num_hidden_layers=32, num_attention_heads=32),
        4096: dict(intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32, rms_norm_eps=1e-5),
    }
    values = sizes[hidden_size] | dict(
        hidden_size=hidden_size,
        num_key_value_heads=sizes[hidden_size]["num_attention_heads"],
        mm_projector_type="ldpnetv2",
        mm_hidden_size=1024,
        mm_vision_tower="openai/clip-vit-large-patch14-336",
        mm_use_im_patch_token=False,
        vision=KNOWN_TOWERS["clip-vit-large-patch14-336"],
    )
    return ModelConfig(**(values | changes))


def _llm(vlm: ModelConfig) -> ModelConfig:
    return ModelConfig.from_dict(replace(vlm, vision=None, mm_vision_tower=None).to_dict())


PRESETS: dict[str, ModelConfig] = {
    "mobilevlm_1.7b": _vlm(2048, mm_projector_type="ldpnet"),
    "mobilevlm_3b": _vlm(2560, mm_projector_type="ldpnet"),
    "mobilevlm_v2_1.7b": _vlm(2048),
    "mobilevlm_v2_3b": _vlm(2560),
    "mobilevlm_v2_7b": _vlm(4096, max_position_embeddings=4096),
    "mobilellama_1.4b": _llm(_vlm(2048)),
    "mobilellama_2.7b": _llm(_vlm(2560)),
}
