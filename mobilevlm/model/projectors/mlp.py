"""`mlpNx_gelu`: N layers with exact GELU between them, no downsampling."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ...checkpoint.config import ModelConfig
from . import PREFIX, Graph

if TYPE_CHECKING:
    from torch import nn


def num_tokens(config: ModelConfig) -> int:
    """Image tokens per image: one for each patch."""
    return config.num_patches


def operations(config: ModelConfig) -> int:
    """Operations of all layers, which run on all patches."""
    return 2 * config.num_patches * num_weights(config)


def num_weights(config: ModelConfig) -> int:
    """Weights of the layers: the first widens patches, the others are square."""
    return config.mm_hidden_size * config.hidden_size + (_depth(config) - 1) * config.hidden_size**2


def module(config: ModelConfig) -> nn.Module:
    """(B, P, mm_hidden_size) to (B, P, hidden_size) in PyTorch."""
    from torch import nn

    layers: list[nn.Module] = [nn.Linear(config.mm_hidden_size, config.hidden_size)]
    for _ in range(1, _depth(config)):
        layers += [nn.GELU(), nn.Linear(config.hidden_size, config.hidden_size)]
    return nn.Sequential(*layers)


def to_onnx(graph: Graph, x: str, config: ModelConfig) -> str:
    """Writes the layers into a graph.

    Args:
        graph: to write into.
        x: name of the patch features, (1, P, mm_hidden_size).
        config: the model.
    """
    x = graph.linear(x, f"{PREFIX}0")
    for layer in range(1, _depth(config)):
        x = graph.linear(graph.op("Gelu", x), f"{PREFIX}{2 * layer}")
    return x


def _depth(config: ModelConfig) -> int:
    return int(re.findall(r"\d+", config.mm_projector_type)[0])
