"""Weights in the type that flows through a strongly typed graph, float16 or float32: nothing is cast."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .fp32 import transposed

if TYPE_CHECKING:
    from ..split.graph import Graph

# Of what is checked: float32 arithmetic on weights that were rounded to float16.
TOLERANCE = 1e-2
BYTES = 2
TABLE_DTYPE = np.float16


def linear(graph: Graph, x: str, names: tuple[str, ...]) -> str:
    """MatMul with the transposed weight."""
    name = f"{names[0]}.weight"
    graph.initializer(name, graph.narrowed(name, transposed(graph, names)))
    return graph.op("MatMul", x, name)
