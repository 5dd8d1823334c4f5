"""int16 weights with a scale for each output: for the blocks that 8 bits cost too much, where an NPU multiplies 16."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .fp32 import transposed

if TYPE_CHECKING:
    from ..split.graph import Graph

LARGEST = 32767


def linear(graph: Graph, x: str, names: tuple[str, ...]) -> str:
    """Writes a MatMul with the transposed weight, dequantised from int16.

    Args:
        graph: receives nodes and weights.
        x: name of the input, (..., in).
        names: checkpoint layers without `.weight`, packed side by side into one output.
    """
    weight = transposed(graph, names)
    scales = np.abs(weight).max(axis=0) / LARGEST
    scales[scales == 0] = 1
    values = np.rint(weight / scales).astype(np.int16)
    stored = [graph.initializer(f"{names[0]}.{part}", value) for part, value in (("codes", values), ("scales", scales))]
    return graph.op("MatMul", x, graph.op("DequantizeLinear", *stored, axis=1))
