"""`linear`: one layer, no downsampling."""

from __future__ import annotations

from torch import nn

from ...checkpoint.config import ModelConfig
from . import PREFIX, Graph


class Projector(nn.Linear):
    """(B, P, mm_hidden_size) to (B, P, hidden_size)."""

    def __init__(self, config: ModelConfig):
        super().__init__(config.mm_hidden_size, config.hidden_size)

    @staticmethod
    def num_tokens(config: ModelConfig) -> int:
        """Image tokens per picture."""
        return config.num_patches

    @staticmethod
    def to_onnx(graph: Graph, x: str, config: ModelConfig) -> str:
        """Write this projector into a graph."""
        return graph.linear(x, PREFIX.removesuffix("."))
