"""Image and text encoders, trained on captions with CLIP's contrastive loss and, beside it, on labelled regions.

CLIP: https://arxiv.org/abs/2103.00020. Only the vision tower is kept. Regions (`regions`) are predicted from the hidden
state that a projector will read later, so that the projector finds them there; the contrastive loss alone asks for
little more than what is in the image.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.distributed import get_world_size, is_initialized
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionModel

from mobilevlm.checkpoint.config import VisionConfig
from mobilevlm.model.configuration import clip_config

from .regions import RegionHead, RegionVocabulary

HIGHEST_SCALE = math.log(100)  # as in CLIP: above it training is unstable


class ImageTextModel(nn.Module):
    """Vision tower, and the text encoder and heads that it is trained with.

    Args:
        vision: sizes of the tower.
        vocab_size: pieces of the captions' tokenizer.
        max_length: longest caption in tokens.
        select_layer: index of the hidden state that regions are predicted from (`mm_vision_select_layer`).
        regions: attributes that patches are labelled with; None for plain CLIP.
        region_loss_weight: factor of the region loss; the contrastive loss has 1.
    """

    def __init__(
        self,
        vision: VisionConfig,
        vocab_size: int,
        max_length: int,
        select_layer: int,
        regions: RegionVocabulary | None = None,
        region_loss_weight: float = 0.0,
    ):
        super().__init__()
        width, layers = min(768, vision.hidden_size), max(1, vision.num_hidden_layers // 2)  # CLIP's for ViT-L
        heads = max(1, width // 64)
        self.select_layer, self.region_loss_weight = select_layer, region_loss_weight
        self.vision_model = CLIPVisionModel(clip_config(vision))
        self.text_model = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=vocab_size,
                hidden_size=width,
                intermediate_size=4 * width,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                max_position_embeddings=max_length,
                projection_dim=width,
                bos_token_id=1,
                eos_token_id=2,
            )
        )
        self.visual_projection = nn.Linear(vision.hidden_size, width, bias=False)
        self.text_projection = nn.Linear(width, width, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.region_head = RegionHead(regions, vision.hidden_size) if regions else None

    def forward(
        self,
        pixel_values: torch.Tensor,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        regions: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Returns the losses of a batch of images with their captions.

        Args:
            pixel_values: (B, 3, H, W) float.
            input_ids: (B, T) int64 captions, from BOS to EOS, padded on the right.
            attention_mask: (B, T), 1 on tokens.
            regions: (B, attributes, P) int64, labels of each patch; needed when the model was made with `regions`.

        Returns:
            `loss`, and its parts: `contrastive_loss` over all processes, `region_loss` of this process.
        """
        seen = self.vision_model(pixel_values, output_hidden_states=True)
        read = self.text_model(input_ids, attention_mask=attention_mask).last_hidden_state
        # Not the model's own pooling: with LLaMA's EOS id, 2, transformers takes the highest id of the text instead.
        end = attention_mask.sum(1) - 1
        text = self.text_projection(read[torch.arange(len(read), device=read.device), end])
        image = self.visual_projection(seen.pooler_output)
        scale = self.logit_scale.clamp(max=HIGHEST_SCALE).exp()
        contrastive = contrastive_loss(_gathered(image), _gathered(text), scale)
        if self.region_head is None:
            return {"loss": contrastive, "contrastive_loss": contrastive.detach()}
        shown = self.region_head(seen.hidden_states[self.select_layer][:, 1:], regions)
        loss = contrastive + self.region_loss_weight * shown
        return {"loss": loss, "contrastive_loss": contrastive.detach(), "region_loss": shown.detach()}


def contrastive_loss(image: torch.Tensor, text: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Returns CLIP's loss: each image is classified among all captions, and each caption among all images.

    Args:
        image: (N, D) image embeddings, not normalised.
        text: (N, D) text embeddings in the same order.
        scale: inverse temperature, a scalar.
    """
    image, text = nn.functional.normalize(image.float(), dim=1), nn.functional.normalize(text.float(), dim=1)
    logits = scale * image @ text.T
    targets = torch.arange(len(logits), device=logits.device)
    return (nn.functional.cross_entropy(logits, targets) + nn.functional.cross_entropy(logits.T, targets)) / 2


def _gathered(embeds: torch.Tensor) -> torch.Tensor:
    """Embeddings of all processes, with gradients: each process computes the loss of the whole batch."""
    if not is_initialized() or get_world_size() == 1:
        return embeds
    from torch.distributed.nn.functional import all_gather

    return torch.cat(all_gather(embeds.contiguous()))
