"""int8 weights and values, by explicit QuantizeLinear and DequantizeLinear around linear layers and nothing else.

A layer's weights have a scale for each output, what it reads has one for all, from the largest value on the calibration
data; everything between layers stays float16. Sums of the residual stream in int8 cost a ViT on an Orin 80 points of
accuracy, and its attention has no int8 kernel for an image's 577 rows. LLaMA's products of two layers' outputs are
evened out first (`weights/smoothquant.py`). Layers whose values one scale does not fit stay float16, and so do
those whose values nobody has looked at: the head and the projector, behind which nothing makes up for their rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mobilevlm.engines.stage_form import FP16, INT8, StageForm

from . import tensorrt_fp16
from .facts import Facts
from .fp32 import transposed
from .int8 import LARGEST

if TYPE_CHECKING:
    from ..split.graph import Graph

FACTS = Facts(
    tolerance=0.2,  # that nothing is broken; what it costs is for the benchmarks to say
    bytes_per_weight=1.1,
    table_dtype=np.float16,
    form=StageForm(INT8, FP16, 1, 2, "float16", "tensorrt", quantized=True),
    fixes_ranges=True,
    has_qdq=True,
    value_dtype=np.float16,
)
LEAST_DB = 20.0  # that rounding may leave of what a layer reads
SMALLEST_SCALE = np.finfo(np.float16).tiny  # below it float16 has fewer bits


def linear(graph: Graph, x: str, names: tuple[str, ...]) -> str:
    """Writes a MatMul of values and the transposed weight, both dequantised from int8.

    Args:
        graph: receives nodes and weights.
        x: name of the input, (..., in).
        names: checkpoint layers without `.weight`, packed side by side into one output.
    """
    values, scales = (f"{names[0]}.{part}" for part in ("codes", "scales"))
    seen = graph.magnitudes(names[0])
    if seen is None or seen.int8_db < LEAST_DB:
        return tensorrt_fp16.linear(graph, x, names)
    weight = transposed(graph, names)
    found = _scales(np.abs(weight).max(axis=0))
    graph.initializer(scales, found)
    whole = np.rint(weight / found.astype(np.float32)).clip(-LARGEST, LARGEST)
    graph.initializer(values, whole.astype(np.int8))
    largest = seen.largest
    rows = graph.once(f"{x}.rows", lambda: _quantized(graph, x, names[0], largest))
    return graph.op("MatMul", rows, graph.op("DequantizeLinear", values, scales, axis=1))


def _scales(largest: np.ndarray) -> np.ndarray:
    """Scales in float16, the type that DequantizeLinear is to give."""
    return np.maximum(largest / LARGEST, SMALLEST_SCALE).astype(np.float16)


def _quantized(graph: Graph, x: str, name: str, largest: float) -> str:
    """What a layer reads, quantised to int8 and back. Layers that read the same share it: they have seen the same."""
    step = f"{name}.step"
    graph.scalar(step, _scales(np.array([largest]))[0])
    zero = graph.once("zero code", lambda: graph.scalar("zero code", np.int8(0)))  # without it values are unsigned
    return graph.op("DequantizeLinear", graph.op("QuantizeLinear", x, step, zero), step, zero)
