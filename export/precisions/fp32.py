"""float32 weights, float32 arithmetic: the form every other precision is measured against."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mobilevlm.engines.stage_form import FP32, StageForm

from .facts import Facts

if TYPE_CHECKING:
    from ..split.graph import Graph

FACTS = Facts(5e-5, 4, np.float32, StageForm(FP32, FP32, 4, 4, "float32"))


def linear(graph: Graph, x: str, names: tuple[str, ...]) -> str:
    """Writes a MatMul with the transposed weight.

    Args:
        graph: receives nodes and weights.
        x: name of the input, (..., in).
        names: checkpoint layers without `.weight`, packed side by side into one output.
    """
    return graph.op("MatMul", x, graph.initializer(f"{names[0]}.weight", transposed(graph, names)))


def transposed(graph: Graph, names: tuple[str, ...]) -> np.ndarray:
    """Returns the weights of layers side by side as one float32 (in, out) matrix; 1x1 convolutions count as linear.

    Args:
        graph: whose tensors they are.
        names: checkpoint layers without `.weight`.
    """
    from ..split.graph import to_numpy

    weights = [to_numpy(graph.tensors[f"{name}.weight"]) for name in names]
    return np.concatenate([weight.reshape(weight.shape[0], -1).T for weight in weights], axis=1)
