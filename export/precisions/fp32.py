"""float32 weights, float32 arithmetic: the form every other precision is measured against."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..split.graph import Graph

TOLERANCE = 5e-5
BYTES = 4
TABLE_DTYPE = np.float32


def linear(graph: Graph, x: str, names: tuple[str, ...]) -> str:
    """MatMul with the transposed weight."""
    return graph.op("MatMul", x, graph.initializer(f"{names[0]}.weight", transposed(graph, names)))


def transposed(graph: Graph, names: tuple[str, ...]) -> np.ndarray:
    """The weights of layers side by side as one float32 (in, out) matrix; 1x1 convolutions count as linear."""
    from ..split.graph import to_numpy

    weights = [to_numpy(graph.tensors[f"{name}.weight"]) for name in names]
    return np.concatenate([weight.reshape(weight.shape[0], -1).T for weight in weights], axis=1)
