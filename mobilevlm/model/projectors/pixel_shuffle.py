"""`pixel_shuffle<N>x` (Idefics3, SmolVLM): N x N patches side by side in one token, and a linear layer without bias.

Tokens come row by row, and within a token the patches do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...checkpoint.config import ConfigError, ModelConfig
from . import PREFIX, Graph

if TYPE_CHECKING:
    import torch
    from torch import nn


def num_tokens(config: ModelConfig) -> int:
    """Image tokens per image: one for N x N patches."""
    return _side(config) ** 2


def operations(config: ModelConfig) -> int:
    """Operations of the layer, which runs on all tokens."""
    return 2 * num_tokens(config) * num_weights(config)


def num_weights(config: ModelConfig) -> int:
    """Weights of the layer."""
    return _factor(config) ** 2 * config.mm_hidden_size * config.hidden_size


def module(config: ModelConfig) -> nn.Module:
    """(B, grid*grid, mm_hidden_size) to (B, N, hidden_size) in PyTorch."""
    from torch import nn

    factor, side = _factor(config), _side(config)

    class PixelShuffle(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            squares = x.unflatten(1, (side, factor, side, factor)).transpose(2, 3)
            return squares.reshape(len(x), side * side, factor * factor * x.shape[-1])

    wide = factor**2 * config.mm_hidden_size
    return nn.Sequential(PixelShuffle(), nn.Linear(wide, config.hidden_size, bias=False))


def to_onnx(graph: Graph, x: str, config: ModelConfig) -> str:
    """Writes the projector into a graph.

    Args:
        graph: to write into.
        x: name of the patch features, (1, grid*grid, mm_hidden_size).
        config: the model.
    """
    factor, side = _factor(config), _side(config)
    row = factor * config.mm_hidden_size  # a token's patches of one row of the image
    x = graph.op("Reshape", x, graph.constant(np.array([side, factor, side, row])))
    x = graph.op("Transpose", x, perm=[0, 2, 1, 3])
    x = graph.op("Reshape", x, graph.constant(np.array([1, side * side, factor * row])))
    return graph.linear(x, f"{PREFIX}1")


def _factor(config: ModelConfig) -> int:
    return int(config.mm_projector_type.removeprefix("pixel_shuffle").removesuffix("x"))


def _side(config: ModelConfig) -> int:
    """Tokens per side.

    Raises:
        ConfigError: the patches do not make whole tokens.
    """
    grid, factor = config.tower.grid, _factor(config)
    if grid % factor:
        raise ConfigError(f"the vision tower has {grid} patches a side, no multiple of {factor}, which one token joins")
    return grid // factor
