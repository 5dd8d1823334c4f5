"""The vision tower of the PyTorch model, under the published parameter names."""

from __future__ import annotations

import torch
from torch import nn
from transformers import CLIPVisionModel

from ..checkpoint.config import ModelConfig
from .configuration import clip_config


class VisionTower(nn.Module):
    """CLIP, up to the hidden state that the projector reads."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.select_layer = config.mm_vision_select_layer
        self.keep_cls = config.mm_vision_select_feature == "cls_patch"
        # The doubled name and `vision_model` are the published ones.
        self.vision_tower = nn.ModuleDict({"vision_model": CLIPVisionModel(clip_config(config.tower))})

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Patch features (B, P, mm_hidden_size) of `pixel_values` (B, 3, H, W), in the same dtype."""
        clip = self.vision_tower["vision_model"]
        weights = next(clip.parameters())
        hidden = clip(pixel_values.to(weights.dtype), output_hidden_states=True).hidden_states[self.select_layer]
        return (hidden if self.keep_cls else hidden[:, 1:]).to(pixel_values.dtype)

    def train(self, mode: bool = True) -> VisionTower:
        """Stay in evaluation mode: the tower is never trained within a MobileVLM."""
        return super().train(False)
