"""`mlp_downsample` (VILA1.5): 2 x 2 patches side by side in one token, a norm, and two linears with exact GELU between.

An odd grid gets a row and a column of zeros. Tokens come column by column, as in the original: the patches of the first
two columns, from top to bottom, are the first tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...checkpoint.config import ModelConfig
from . import PREFIX, Graph

if TYPE_CHECKING:
    import torch
    from torch import nn

EPSILON = 1e-5  # PyTorch's for a LayerNorm


def num_tokens(config: ModelConfig) -> int:
    """Image tokens per image: one for 2 x 2 patches."""
    return _side(config) ** 2


def operations(config: ModelConfig) -> int:
    """Operations of both layers, which run on all tokens."""
    return 2 * num_tokens(config) * num_weights(config)


def num_weights(config: ModelConfig) -> int:
    """Weights of the layers: the first reads four patches, the second is square."""
    return 4 * config.mm_hidden_size * config.hidden_size + config.hidden_size**2


def module(config: ModelConfig) -> nn.Module:
    """(B, grid*grid, mm_hidden_size) to (B, N, hidden_size) in PyTorch."""
    from torch import nn

    class Downsample(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            grid, side, width = config.tower.grid, _side(config), x.shape[-1]
            image = x.unflatten(1, (grid, grid))
            if grid % 2:
                image = nn.functional.pad(image, (0, 0, 0, 1, 0, 1))
            pairs = image.reshape(len(x), 2 * side, side, 2 * width)  # of neighbouring columns
            return pairs.transpose(1, 2).reshape(len(x), side * side, 4 * width)

    width = 4 * config.mm_hidden_size
    first, second = nn.Linear(width, config.hidden_size), nn.Linear(config.hidden_size, config.hidden_size)
    return nn.Sequential(Downsample(), nn.LayerNorm(width, eps=EPSILON), first, nn.GELU(), second)


def to_onnx(graph: Graph, x: str, config: ModelConfig) -> str:
    """Writes the projector into a graph.

    Args:
        graph: to write into.
        x: name of the patch features, (1, grid*grid, mm_hidden_size).
        config: the model.
    """
    grid, side, width = config.tower.grid, _side(config), config.mm_hidden_size
    if grid % 2:
        x = graph.op("Reshape", x, graph.constant(np.array([grid, grid, width])))
        for axis, shape in enumerate(((1, grid, width), (grid + 1, 1, width))):  # not all runtimes have Pad
            x = graph.op("Concat", x, graph.constant(np.zeros(shape, np.float32)), axis=axis)
    pairs = graph.op("Reshape", x, graph.constant(np.array([2 * side, side, 2 * width])))
    columns = graph.op("Transpose", pairs, perm=[1, 0, 2])
    x = graph.op("Reshape", columns, graph.constant(np.array([1, side * side, 4 * width])))
    x = graph.linear(graph.layer_norm(x, f"{PREFIX}1", EPSILON), f"{PREFIX}2")
    return graph.linear(graph.op("Gelu", x), f"{PREFIX}4")


def _side(config: ModelConfig) -> int:
    """Tokens per side: half the grid, rounded up."""
    return (config.tower.grid + 1) // 2
