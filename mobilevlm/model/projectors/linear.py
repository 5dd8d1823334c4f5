"""`linear`: one layer, no downsampling."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...checkpoint.config import ModelConfig
from . import PREFIX, Graph

if TYPE_CHECKING:
    from torch import nn


def num_tokens(config: ModelConfig) -> int:
    """Image tokens per image: one for each patch."""
    return config.num_patches


def operations(config: ModelConfig) -> int:
    """Operations of the layer on all patches."""
    return 2 * config.num_patches * num_weights(config)


def num_weights(config: ModelConfig) -> int:
    """Weights of the layer."""
    return config.mm_hidden_size * config.hidden_size


def module(config: ModelConfig) -> nn.Module:
    """(B, P, mm_hidden_size) to (B, P, hidden_size) in PyTorch."""
    from torch import nn

    return nn.Linear(config.mm_hidden_size, config.hidden_size)


def to_onnx(graph: Graph, x: str, config: ModelConfig) -> str:
    """Writes the layer into a graph.

    Args:
        graph: to write into.
        x: name of the patch features, (1, P, mm_hidden_size).
        config: the model.
    """
    return graph.linear(x, PREFIX.removesuffix("."))
