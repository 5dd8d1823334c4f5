"""How a vision tower starts when it is trained from nothing."""

from __future__ import annotations

import torch
from transformers import CLIPVisionModel
from transformers.models.clip.modeling_clip import CLIPAttention

from mobilevlm.checkpoint.config import VisionConfig

OWN_PLACE, NOISE = 0.7, 0.7  # shares of the unit and of a random matrix in what query and key start as
TAKEN = 0.4  # the same for value and output, the unit with a minus sign


@torch.no_grad()
def start_mimetic(tower: CLIPVisionModel, vision: VisionConfig) -> None:
    """Let attention start as trained towers have it: every patch looks around its own place.

    Positions become sines and cosines of row and column, query times key is near the unit matrix, value times output
    near minus the unit matrix (Trockman and Kolter, arXiv 2305.09828). Small data sets need no longer teach a tower
    which patches are neighbours.
    """
    width, grid = vision.hidden_size, vision.image_size // vision.patch_size
    tower.embeddings.position_embedding.weight[1:] = 0.5 * sine_positions(grid, width)
    for attention in tower.modules():
        if isinstance(attention, CLIPAttention):
            _start_attention(attention, width, vision.num_attention_heads)


def _start_attention(attention: CLIPAttention, width: int, heads: int) -> None:
    size = width // heads
    for head in range(heads):
        rows = slice(head * size, (head + 1) * size)
        query, key = _factors(NOISE * _random(width) + OWN_PLACE * torch.eye(width), size)
        attention.q_proj.weight[rows], attention.k_proj.weight[rows] = query, key
    output, value = _factors(TAKEN * (_random(width) - torch.eye(width)), width)
    attention.v_proj.weight.copy_(value)
    attention.out_proj.weight.copy_(output.T)


def sine_positions(grid: int, width: int) -> torch.Tensor:
    """Positions of a square grid, row by row: (grid * grid, width), a quarter of the width for each sine and cosine."""
    rates = 10000 ** -(torch.arange(width // 4) / (width // 4))
    angles = torch.arange(grid)[:, None] * rates
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    return torch.cat([waves.repeat_interleave(grid, 0), waves.repeat(grid, 1)], dim=1)


def _random(width: int) -> torch.Tensor:
    return torch.randn(width, width) / width**0.5


def _factors(product: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(rank, n) each, of like size; the first one's transpose times the second is the best product of that rank."""
    left, values, right = torch.linalg.svd(product)
    root = values[:rank].sqrt()[:, None]
    return root * left.T[:rank], root * right[:rank]
