"""Initialisation of a vision tower that is trained from nothing."""

from __future__ import annotations

import torch
from transformers import CLIPVisionModel
from transformers.models.clip.modeling_clip import CLIPAttention

from mobilevlm.checkpoint.config import VisionConfig

OWN_PLACE, NOISE = 0.7, 0.7  # weights of the unit and of a random matrix in query times key
TAKEN = 0.4  # weight of both in value times output, the unit matrix with a minus sign


@torch.no_grad()
def start_mimetic(tower: CLIPVisionModel, vision: VisionConfig) -> None:
    """Initialises attention as trained towers have it: every patch attends to the patches around its own place.

    Positions become sines and cosines of row and column, query times key is near the unit matrix, value times output
    near minus the unit matrix (Trockman and Kolter, arXiv 2305.09828), so that small data sets need not teach a tower
    which patches are neighbours.

    Args:
        tower: the tower, changed in place.
        vision: sizes of the tower.
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
    """Position embeddings of a square grid: a quarter of the width for each sine and cosine of row and column.

    Args:
        grid: patches along an edge.
        width: size of an embedding, a multiple of 4.

    Returns:
        (grid * grid, width) float32, row by row.
    """
    rates = 10000 ** -(torch.arange(width // 4) / (width // 4))
    angles = torch.arange(grid)[:, None] * rates
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    return torch.cat([waves.repeat_interleave(grid, 0), waves.repeat(grid, 1)], dim=1)


def _random(width: int) -> torch.Tensor:
    return torch.randn(width, width) / width**0.5


def _factors(product: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Factors (rank, n) of like size: the first one's transpose times the second is the best product of that rank."""
    left, values, right = torch.linalg.svd(product)
    root = values[:rank].sqrt()[:, None]
    return root * left.T[:rank], root * right[:rank]
