"""Configurations in the form that transformers needs: of a MobileVLM, and of its vision tower."""

from __future__ import annotations

from typing import Any

from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    PreTrainedModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from ..checkpoint.config import ModelConfig, VisionConfig
from ..checkpoint.vision_config import SIGLIP

_SHARED = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("vocab_size", "head_dim", "rms_norm_eps", "max_position_embeddings", "tie_word_embeddings"),
    *("bos_token_id", "eos_token_id", "pad_token_id"),
)


_VISION = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size"),
    *("layer_norm_eps", "hidden_act"),
)


class MobileVLMConfig(LlamaConfig):
    """transformers' view of a `ModelConfig`, which it carries as `mobilevlm`."""

    model_type = "mobilevlm"

    @classmethod
    def of(cls, config: ModelConfig) -> MobileVLMConfig:
        """Wrap a `ModelConfig`."""
        values: dict[str, Any] = {name: getattr(config, name) for name in _SHARED}
        values["rope_parameters"] = {"rope_type": "default", "rope_theta": config.rope_theta}
        values["mobilevlm"] = config.to_dict()
        return cls(**values)

    @property
    def model_config(self) -> ModelConfig:
        """The wrapped `ModelConfig`."""
        return ModelConfig.from_dict(self.mobilevlm)


def clip_config(vision: VisionConfig) -> CLIPVisionConfig:
    """transformers' configuration of a CLIP vision tower."""
    return CLIPVisionConfig(**_vision_sizes(vision), projection_dim=min(768, vision.hidden_size))


def vision_model(vision: VisionConfig) -> PreTrainedModel:
    """transformers' model of a vision tower, with fresh weights; SigLIP's without the head that pools its features."""
    if vision.model_type == SIGLIP:
        return SiglipVisionModel(SiglipVisionConfig(**_vision_sizes(vision), vision_use_head=False))
    return CLIPVisionModel(clip_config(vision))


def _vision_sizes(vision: VisionConfig) -> dict[str, Any]:
    return {name: getattr(vision, name) for name in _VISION}
