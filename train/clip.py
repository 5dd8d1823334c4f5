"""Image and text encoders that learn from captions: CLIP's contrastive loss, beside it a captioning loss as in CoCa.

CLIP: https://arxiv.org/abs/2103.00020, CoCa: https://arxiv.org/abs/2205.01917. Only the vision tower is kept. The
captioner reads the hidden state a projector will read later, so that what it needs (where, how many, which letters) is
there for the projector too; the contrastive loss alone asks for little more than what is in the picture.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.distributed import get_world_size, is_initialized
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel

from mobilevlm.config import VisionConfig
from mobilevlm.prompt import IGNORE_INDEX

HIGHEST_SCALE = math.log(100)  # as in CLIP: above it training is unstable


class ImageTextModel(nn.Module):
    """A vision tower and what teaches it.

    Args:
        vision: sizes of the tower.
        vocab_size: of the captions' tokenizer.
        max_length: longest caption in tokens.
        caption_loss_weight: of the captioning loss against the contrastive one; 0 trains plain CLIP.
        select_layer: hidden state the captioner reads (`mm_vision_select_layer`).
    """

    def __init__(
        self, vision: VisionConfig, vocab_size: int, max_length: int, caption_loss_weight: float, select_layer: int
    ):
        super().__init__()
        width, layers = min(768, vision.hidden_size), max(1, vision.num_hidden_layers // 2)  # CLIP's for ViT-L
        heads = max(1, width // 64)
        self.select_layer, self.caption_loss_weight = select_layer, caption_loss_weight
        self.vision_model = CLIPVisionModel(tower_config(vision))
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
        if caption_loss_weight:
            self.captioner = Captioner(width, heads, layers, vision.hidden_size)

    def forward(
        self, pixel_values: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Loss of a batch of pictures with their captions.

        Args:
            pixel_values: (B, 3, H, W).
            input_ids: (B, T) int64 captions, from BOS to EOS, padded on the right.
            attention_mask: (B, T), 1 on tokens.

        Returns:
            `loss`, and its parts `contrastive_loss` and `caption_loss`, of all processes' batches together.
        """
        seen = self.vision_model(pixel_values, output_hidden_states=True)
        read = self.text_model(input_ids, attention_mask=attention_mask).last_hidden_state
        # Not the model's own pooling: with LLaMA's EOS id, 2, transformers takes the highest id of the text instead.
        end = attention_mask.sum(1) - 1
        text = self.text_projection(read[torch.arange(len(read), device=read.device), end])
        image = self.visual_projection(seen.pooler_output)
        scale = self.logit_scale.clamp(max=HIGHEST_SCALE).exp()
        contrastive = contrastive_loss(_gathered(image), _gathered(text), scale)
        if not self.caption_loss_weight:
            return {"loss": contrastive, "contrastive_loss": contrastive.detach()}
        hidden = self.captioner(read, seen.hidden_states[self.select_layer])
        logits = hidden @ self.text_model.embeddings.token_embedding.weight.T
        targets = input_ids.masked_fill(attention_mask == 0, IGNORE_INDEX)[:, 1:]
        caption = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), targets.flatten())
        loss = contrastive + self.caption_loss_weight * caption
        return {"loss": loss, "contrastive_loss": contrastive.detach(), "caption_loss": caption.detach()}


class Captioner(nn.Module):
    """Predicts a caption token by token from the text before it and the picture."""

    def __init__(self, width: int, heads: int, layers: int, vision_width: int):
        super().__init__()
        self.bridge = nn.Linear(vision_width, width)
        layer = nn.TransformerDecoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.decoder = nn.TransformerDecoder(layer, layers, norm=nn.LayerNorm(width))

    def forward(self, text: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Text states (B, T, D) and the tower's features (B, P, V) to states that predict the next token."""
        causal = nn.Transformer.generate_square_subsequent_mask(text.shape[1], device=text.device, dtype=text.dtype)
        return self.decoder(text, self.bridge(features), tgt_mask=causal, tgt_is_causal=True)


def contrastive_loss(image: torch.Tensor, text: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """CLIP's loss: every picture finds its caption among all, and every caption its picture.

    Args:
        image: (N, D), any length.
        text: (N, D), in the same order.
        scale: the inverse temperature.
    """
    image, text = nn.functional.normalize(image.float(), dim=1), nn.functional.normalize(text.float(), dim=1)
    logits = scale * image @ text.T
    targets = torch.arange(len(logits), device=logits.device)
    return (nn.functional.cross_entropy(logits, targets) + nn.functional.cross_entropy(logits.T, targets)) / 2


def _gathered(embeds: torch.Tensor) -> torch.Tensor:
    """The embeddings of all processes, with gradients: each process computes the loss of the whole batch."""
    if not is_initialized() or get_world_size() == 1:
        return embeds
    from torch.distributed.nn.functional import all_gather

    return torch.cat(all_gather(embeds.contiguous()))


def tower_config(vision: VisionConfig) -> CLIPVisionConfig:
    """transformers' configuration of a tower."""
    return CLIPVisionConfig(
        hidden_size=vision.hidden_size,
        intermediate_size=vision.intermediate_size,
        num_hidden_layers=vision.num_hidden_layers,
        num_attention_heads=vision.num_attention_heads,
        image_size=vision.image_size,
        patch_size=vision.patch_size,
        layer_norm_eps=vision.layer_norm_eps,
        hidden_act=vision.hidden_act,
        projection_dim=min(768, vision.hidden_size),
    )
