"""float16 storage, float32 arithmetic: half the disk and download, the same speed as float32 on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from mobilevlm.errors import UserError

from .fp32 import transposed

if TYPE_CHECKING:
    from ..split.graph import Graph

# Exact for checkpoints published in float16; bfloat16 and float32 weights lose bits below 2**-11 of their size.
TOLERANCE = 1e-2
BYTES = 2
TABLE_DTYPE = np.float16


def linear(graph: Graph, x: str, names: tuple[str, ...]) -> str:
    """MatMul with the transposed weight, cast up from float16."""
    weight = transposed(graph, names)
    largest = float(np.abs(weight).max())
    if largest > np.finfo(np.float16).max:
        raise UserError(
            f"stage {graph.name}: {names[0]}.weight holds {largest:g}, float16 ends at {np.finfo(np.float16).max:g}: "
            f"build this stage with --precision {graph.name}=fp32"
        )
    stored = graph.initializer(f"{names[0]}.weight", weight.astype(np.float16))
    return graph.op("MatMul", x, graph.op("Cast", stored, to=TensorProto.FLOAT))
