"""int16 weights with a scale for each output: for the blocks that 8 bits cost too much, where an NPU multiplies 16."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .fp32 import transposed

if TYPE_CHECKING:
    from ..split.graph import Graph

LARGEST = 32767


def linear(graph: Graph, x: str, names: tuple[str, ...]) -> str:
    """MatMul with the transposed weight, decoded from int16."""
    weight = transposed(graph, names)
    scales = np.abs(weight).max(axis=0) / LARGEST
    scales[scales == 0] = 1
    codes = np.rint(weight / scales).astype(np.int16)
    stored = [graph.initializer(f"{names[0]}.{part}", value) for part, value in (("codes", codes), ("scales", scales))]
    return graph.op("MatMul", x, graph.op("DequantizeLinear", *stored, axis=1))
