"""float16 storage, float32 arithmetic: half the disk and download, the same speed as float32 on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mobilevlm.engines.stage_form import FP32, StageForm
from mobilevlm.errors import UserError

from .facts import Facts
from .fp32 import transposed

if TYPE_CHECKING:
    from ..split.graph import Graph

# Its tolerance: exact for checkpoints published in float16; others lose bits below 2**-11 of a weight's size.
FACTS = Facts(1e-2, 2, np.float16, StageForm(FP32, FP32, 4, 4, "float32", widened=True))


def linear(graph: Graph, x: str, names: tuple[str, ...]) -> str:
    """Writes a MatMul with the transposed weight, cast up from float16.

    Args:
        graph: receives nodes and weights.
        x: name of the input, (..., in).
        names: checkpoint layers without `.weight`, packed side by side into one output.

    Raises:
        UserError: a weight is beyond float16.
    """
    from onnx import TensorProto

    weight = transposed(graph, names)
    largest = float(np.abs(weight).max())
    if largest > np.finfo(np.float16).max:
        raise UserError(
            f"stage {graph.name}: {names[0]}.weight holds {largest:g}, float16 ends at {np.finfo(np.float16).max:g}: "
            f"build this stage with --precision {graph.name}=fp32"
        )
    stored = graph.initializer(f"{names[0]}.weight", weight.astype(np.float16))
    return graph.op("MatMul", x, graph.op("Cast", stored, to=TensorProto.FLOAT))
