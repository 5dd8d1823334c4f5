"""int8 weights with a scale for each output, for graphs whose values become 16-bit codes (`backends/qnn/qdq.py`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .fp32 import transposed
from .int8 import quantize

if TYPE_CHECKING:
    from ..split.graph import Graph

TOLERANCE = 0.2
BUDGET_DB = 30.0  # what coding may leave of the signal behind a stage, by `export/backends/qnn/sensitivity.py`
BYTES = 1.01
TABLE_DTYPE = np.float16


def linear(graph: Graph, x: str, names: tuple[str, ...]) -> str:
    """MatMul with the transposed weight, decoded from int8."""
    codes, scales = quantize(transposed(graph, names))
    stored = [graph.initializer(f"{names[0]}.{part}", value) for part, value in (("codes", codes), ("scales", scales))]
    return graph.op("MatMul", x, graph.op("DequantizeLinear", *stored, axis=1))
