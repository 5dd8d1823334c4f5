"""Weights in the type that flows through a strongly typed graph, float16 or float32: nothing is cast."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mobilevlm.engines.stage_form import FP16, StageForm

from .facts import Facts
from .fp32 import transposed

if TYPE_CHECKING:
    from ..split.graph import Graph

FACTS = Facts(
    tolerance=1e-2,  # of what is checked: float32 arithmetic on weights that were rounded to float16
    bytes_per_weight=2,
    table_dtype=np.float16,
    form=StageForm(FP16, FP16, 2, 2, "float16", "tensorrt"),
    value_dtype=np.float16,
)


def linear(graph: Graph, x: str, names: tuple[str, ...]) -> str:
    """Writes a MatMul with the transposed weight.

    Args:
        graph: receives nodes and weights.
        x: name of the input, (..., in).
        names: checkpoint layers without `.weight`, packed side by side into one output.
    """
    name = f"{names[0]}.weight"
    graph.initializer(name, graph.narrowed(name, transposed(graph, names)))
    return graph.op("MatMul", x, name)
