"""The vision tower of the PyTorch model, under the published parameter names."""

from __future__ import annotations

import torch
from torch import nn

from ..checkpoint.config import ModelConfig
from .configuration import vision_model


class VisionTower(nn.Module):
    """CLIP or SigLIP, up to the hidden state that the projector reads."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.select_layer = config.mm_vision_select_layer
        self.keep_all = config.mm_vision_select_feature == "cls_patch" or not config.tower.has_class_token
        self.use_post_layernorm = config.tower.use_post_layernorm
        # The doubled name and `vision_model` are the published ones.
        self.vision_tower = nn.ModuleDict({"vision_model": vision_model(config.tower)})

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Patch features (B, P, mm_hidden_size) of `pixel_values` (B, 3, H, W), in the same dtype."""
        tower = self.vision_tower["vision_model"]
        weights = next(tower.parameters())
        hidden = tower(pixel_values.to(weights.dtype), output_hidden_states=True).hidden_states[self.select_layer]
        if self.use_post_layernorm:
            hidden = tower.get_submodule("post_layernorm")(hidden)
        return (hidden if self.keep_all else hidden[:, 1:]).to(pixel_values.dtype)

    def train(self, mode: bool = True) -> VisionTower:
        """Stay in evaluation mode: the tower is never trained within a MobileVLM."""
        return super().train(False)
