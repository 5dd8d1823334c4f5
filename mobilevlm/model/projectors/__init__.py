"""Projectors: patch features (B, P, mm_hidden_size) to image embeddings (B, N, hidden_size), one file per family.

A projector file holds a class `Projector(nn.Module)` whose parameter names are the published ones, with
`num_tokens(config)` and `to_onnx(graph, x, config)`, which writes the same function into a graph.
`config.projector_family` decides which file a `mm_projector_type` means.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol

import numpy as np
from torch import nn

from ...checkpoint.config import ModelConfig, projector_family

PREFIX = "model.mm_projector."


class Graph(Protocol):
    """What a projector needs of the graph it is written into (`export/split/graph.py`)."""

    def op(self, op_type: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""

    def constant(self, value: np.ndarray) -> str:
        """Add a small constant."""

    def weight(self, name: str) -> str:
        """Add a checkpoint tensor as it is."""

    def layer_norm(self, x: str, name: str, epsilon: float) -> str:
        """LayerNormalization over the last axis, for a checkpoint layer given without `.weight`/`.bias`."""

    def linear(self, x: str, *names: str) -> str:
        """`x @ weight.T + bias` for checkpoint layers given without `.weight`/`.bias`, in the stage's precision."""


def projector_class(config: ModelConfig) -> type[nn.Module]:
    """The projector class of a configuration."""
    return import_module(f".{projector_family(config.mm_projector_type)}", __package__).Projector


def num_image_tokens(config: ModelConfig) -> int:
    """Rows one image takes in the prompt."""
    return projector_class(config).num_tokens(config)
