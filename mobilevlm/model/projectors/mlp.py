"""`mlpNx_gelu`: N layers with exact GELU between them, no downsampling."""

from __future__ import annotations

import re

from torch import nn

from ...checkpoint.config import ModelConfig
from . import PREFIX, Graph


def _depth(config: ModelConfig) -> int:
    return int(re.findall(r"\d+", config.mm_projector_type)[0])


class Projector(nn.Sequential):
    """(B, P, mm_hidden_size) to (B, P, hidden_size)."""

    def __init__(self, config: ModelConfig):
        layers: list[nn.Module] = [nn.Linear(config.mm_hidden_size, config.hidden_size)]
        for _ in range(1, _depth(config)):
            layers += [nn.GELU(), nn.Linear(config.hidden_size, config.hidden_size)]
        super().__init__(*layers)

    @staticmethod
    def num_tokens(config: ModelConfig) -> int:
        """Image tokens per picture."""
        return config.num_patches

    @staticmethod
    def to_onnx(graph: Graph, x: str, config: ModelConfig) -> str:
        """Write this projector into a graph."""
        x = graph.linear(x, f"{PREFIX}0")
        for layer in range(1, _depth(config)):
            x = graph.linear(graph.op("Gelu", x), f"{PREFIX}{2 * layer}")
        return x
