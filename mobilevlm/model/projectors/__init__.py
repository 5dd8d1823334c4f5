"""Projectors: patch features (B, P, mm_hidden_size) to image embeddings (B, N, hidden_size), one file per family.

A projector file holds the functions of `Projector`. Its first lines import neither PyTorch nor ONNX: a device asks for
`num_tokens`, `operations` and `num_weights`; what needs PyTorch imports it in its function.
`config.projector_family` decides which file a `mm_projector_type` means.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ...checkpoint.config import ModelConfig, projector_family

if TYPE_CHECKING:
    from torch import nn

PREFIX = "model.mm_projector."


class Graph(Protocol):
    """What a projector needs of the graph it is written into (`export/split/graph.py`)."""

    def op(self, op_type: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Adds a node with one output and returns the output's name.

        Args:
            op_type: ONNX's name of the operator.
            inputs: names.
            domain: of the operator; empty for ONNX's own.
            attributes: of the node.
        """

    def constant(self, value: np.ndarray) -> str:
        """Adds a small constant and returns its name."""

    def weight(self, name: str) -> str:
        """Adds a checkpoint tensor as it is and returns its name."""

    def layer_norm(self, x: str, name: str, epsilon: float) -> str:
        """Writes a LayerNormalization over the last axis and returns its output's name.

        Args:
            x: name of the input.
            name: checkpoint layer without `.weight` and `.bias`.
            epsilon: added to the variance.
        """

    def linear(self, x: str, *names: str) -> str:
        """Writes `x @ weight.T + bias` in the stage's precision and returns the output's name.

        Args:
            x: name of the input, (..., in).
            names: checkpoint layers without `.weight` and `.bias`, packed side by side.
        """


class Projector(Protocol):
    """Contents of a projector file."""

    def num_tokens(self, config: ModelConfig) -> int:
        """Image tokens per image, N."""

    def operations(self, config: ModelConfig) -> int:
        """Operations of the linear layers and 1 x 1 convolutions on one image, as `to_onnx` writes them.

        A multiplication with its addition counts as two.
        """

    def num_weights(self, config: ModelConfig) -> int:
        """Weights of those layers; biases, norms and depthwise convolutions are left out."""

    def module(self, config: ModelConfig) -> nn.Module:
        """PyTorch module (B, P, mm_hidden_size) to (B, N, hidden_size), its parameters named as published."""

    def to_onnx(self, graph: Graph, x: str, config: ModelConfig) -> str:
        """Writes the same function into a graph and returns the output's name, (1, N, hidden_size).

        Args:
            graph: to write into.
            x: name of the patch features, (1, P, mm_hidden_size).
            config: the model.
        """


def projector_of(config: ModelConfig) -> Projector:
    """Returns the projector file of a configuration."""
    family: Any = import_module(f".{projector_family(config.mm_projector_type)}", __package__)
    return family


def num_image_tokens(config: ModelConfig) -> int:
    """Rows that one image takes in the prompt; 0 for a text-only model."""
    return projector_of(config).num_tokens(config) if config.vision else 0
