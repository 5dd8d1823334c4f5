"""int8 weights with a scale for each output, int8 activations with a scale for each row.

A row's own scale keeps a token of huge values, as CLIP and LLaMA have them, from flattening all others. Layers that
read the same rows share their quantisation.
Operator: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulIntegerToFloat
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mobilevlm.engines.stage_form import FP32, INT8, StageForm

from .facts import Facts, SeparatePrefill
from .fp32 import transposed

if TYPE_CHECKING:
    from ..split.graph import Graph

FACTS = Facts(
    tolerance=0.2,  # that nothing is broken; what it costs is for the benchmarks to say
    bytes_per_weight=1.06,
    table_dtype=np.float16,
    form=StageForm(INT8, FP32, 1, 1, "float32", quantized=True),
    prefill=SeparatePrefill(decoder="int4", layers=2, from_decoder=True),
)
LARGEST = 127
SMALLEST_ROW = 1e-20  # a row of zeros is divided by this
ROWS = 64  # of a weight, gone through while they are in a core's cache; an even number


def linear(graph: Graph, x: str, names: tuple[str, ...]) -> str:
    """Writes a MatMulIntegerToFloat of quantised rows and the quantised weight.

    Args:
        graph: receives nodes and weights.
        x: name of the input, (..., in).
        names: checkpoint layers without `.weight`, packed side by side into one output.
    """
    weight = transposed(graph, names)
    values, scales = quantize(weight, exact_scales(weight))
    rows, steps = graph.once(f"{x}.rows", lambda: _quantized_rows(graph, x))
    one, zero = graph.once("rows.code", lambda: _row_code(graph))
    stored = [graph.initializer(f"{names[0]}.{part}", value) for part, value in (("codes", values), ("scales", scales))]
    y = graph.op("MatMulIntegerToFloat", rows, stored[0], one, stored[1], zero, domain="com.microsoft")
    return graph.op("Mul", y, steps)


def quantize(weight: np.ndarray, scales: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Quantises a float32 (K, N) matrix by column.

    Args:
        weight: the matrix.
        scales: (N,) float32 of its columns; None for the smallest that reach the column's largest weight.

    Returns:
        Quantised values (K, N) int8 and scales (N,) float32; a weight is `value * scale`.
    """
    scales = np.abs(weight).max(axis=0) / LARGEST if scales is None else scales.copy()
    scales[scales == 0] = 1
    return np.rint(weight / scales).astype(np.int8), scales


def exact_scales(weight: np.ndarray) -> np.ndarray:
    """Computes scales (N,) of a (K, N) matrix whose product with uint8 rows is exact on every CPU.

    x86 CPUs without VNNI add the products of two neighbouring rows in 16 bits (`vpmaddubsw`), which saturate unless two
    neighbours of one sign add up to 128 at most: 255 * 128 fits. A scale that takes their sum to 127 leaves room for
    rounding. It costs 0.7 to 1 dB of the weights; uint8 weights, which are exact too, have no VNNI kernel.
    """
    largest = np.zeros(weight.shape[1], np.float32)
    for start in range(0, len(weight), ROWS):
        rows = weight[start : start + ROWS]
        largest = np.maximum(largest, np.abs(rows).max(axis=0))
        if len(rows) > 1:
            one, other = rows[0 : len(rows) - 1 : 2], rows[1::2]
            largest = np.maximum(largest, (np.maximum(one, 0) + np.maximum(other, 0)).max(axis=0))
            largest = np.maximum(largest, -(np.minimum(one, 0) + np.minimum(other, 0)).min(axis=0))
    return largest / LARGEST


def _quantized_rows(graph: Graph, x: str) -> tuple[str, str]:
    """(1, S, K) rows quantised to uint8 around 128, and the scale of each, (S, 1): a 127th of its largest value."""
    lowest = graph.lowest.get(x)
    sizes = graph.op("Abs", x) if lowest is None else x  # a pass over the rows less
    largest = graph.op("ReduceMax", sizes, graph.constant(np.array([0, 2])), keepdims=0)
    least = SMALLEST_ROW if lowest is None else -lowest
    largest = graph.op("Max", largest, graph.constant(np.array(least, np.float32)))
    steps = graph.op("Mul", largest, graph.constant(np.array(1 / LARGEST, np.float32)))
    _, zero = graph.once("rows.code", lambda: _row_code(graph))
    zeros = graph.op("Expand", zero, graph.op("Shape", steps))
    values = graph.op("QuantizeLinear", x, steps, zeros, axis=1)
    return values, graph.op("Unsqueeze", steps, graph.constant(np.array([1])))


def _row_code(graph: Graph) -> tuple[str, str]:
    """A scale of one, because each row has its own, and the zero point."""
    return graph.constant(np.array(1, np.float32)), graph.constant(np.array(128, np.uint8))
