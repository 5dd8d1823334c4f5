"""int8 weights with a scale for each output, for graphs whose values become 16-bit integers (`backends/qnn/qdq.py`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mobilevlm.engines.stage_form import INT16, StageForm

from .facts import Facts
from .fp32 import transposed
from .int8 import quantize

if TYPE_CHECKING:
    from ..split.graph import Graph

FACTS = Facts(
    tolerance=0.2,
    bytes_per_weight=1.01,
    table_dtype=np.float16,
    form=StageForm(INT16, INT16, 1, 1, "uint8", "qnn"),
    fixes_ranges=True,
    budget_db=30.0,  # of signal to noise behind a stage, by `export/backends/qnn/sensitivity.py`
)


def linear(graph: Graph, x: str, names: tuple[str, ...]) -> str:
    """Writes a MatMul with the transposed weight, dequantised from int8.

    Args:
        graph: receives nodes and weights.
        x: name of the input, (..., in).
        names: checkpoint layers without `.weight`, packed side by side into one output.
    """
    values, scales = quantize(transposed(graph, names))
    stored = [graph.initializer(f"{names[0]}.{part}", value) for part, value in (("codes", values), ("scales", scales))]
    return graph.op("MatMul", x, graph.op("DequantizeLinear", *stored, axis=1))
