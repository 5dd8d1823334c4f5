"""`int8` in standard operators, which OpenVINO runs on an Intel CPU's matrix unit, AMX.

What a layer reads has one scale, found on calibration data, where int8 leaves enough of it (see `tensorrt_int8`), which
costs nothing to apply. Elsewhere rows are divided by their largest value first, so that one scale fits all of them, and
the product is multiplied by it again, and by the weights' scales: all that layers differ in can be inputs of one graph
then (`engines/ort/openvino_layers.py`). Weights lie as their checkpoint has them, (out, in), and can be read in that
form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .fp32 import transposed
from .int8 import LARGEST, SMALLEST_ROW, exact_scales, quantize
from .tensorrt_int8 import LEAST_DB

if TYPE_CHECKING:
    from ..split.graph import Graph

TOLERANCE = 0.2  # that nothing is broken; what it costs is for the benchmarks to say
BYTES = 1.06
TABLE_DTYPE = np.float16


def linear(graph: Graph, x: str, names: tuple[str, ...], factors: str | None = None) -> str:
    """MatMul of rows and a weight, both decoded from int8: one product of codes where a runtime has that."""
    y, own = up_to_factors(graph, x, names)
    if own and factors:  # a number for each row, sooner multiplied than rows
        own, factors = graph.op("Mul", own, factors), None
    return graph.op("Mul", y, own or factors) if own or factors else y


def up_to_factors(graph: Graph, x: str, names: tuple[str, ...]) -> tuple[str, str | None]:
    """`linear`, and what its rows are still to be multiplied by, (1, S, 1); None for nothing."""
    weight = transposed(graph, names)
    codes, scales = quantize(weight, exact_scales(weight))
    stored, seen = graph.initializer(f"{names[0]}.codes", codes.T), graph.magnitudes(names[0])
    if seen is not None and seen.int8_db >= LEAST_DB:
        rows = graph.once(f"{x}.values", lambda: _coded(graph, x, seen.largest / LARGEST))
        return _product(graph, rows, stored, graph.initializer(f"{names[0]}.scales", scales), axis=0), None
    rows, largest = graph.once(f"{x}.rows", lambda: _coded_rows(graph, x))
    y = _product(graph, rows, stored, _number(graph, 1 / LARGEST))
    return graph.op("Mul", y, graph.initializer(f"{names[0]}.scales", scales * LARGEST)), largest


def _product(graph: Graph, rows: str, codes: str, scales: str, **axis: int) -> str:
    weight = graph.op("DequantizeLinear", codes, scales, **axis)
    return graph.op("MatMul", rows, graph.op("Transpose", weight, perm=[1, 0]))


def _coded_rows(graph: Graph, x: str) -> tuple[str, str]:
    """(1, S, K) rows between -1 and 1 through int8, and what to multiply them by, (1, S, 1)."""
    axis = graph.once("row axis", lambda: graph.constant(np.array([2])))
    largest, lowest = (graph.op(f"Reduce{end}", x, axis, keepdims=1) for end in ("Max", "Min"))
    least = graph.once("least row", lambda: graph.constant(np.array(SMALLEST_ROW, np.float32)))
    largest = graph.op("Max", largest, graph.op("Neg", lowest), least)
    return _coded(graph, graph.op("Div", x, largest), 1 / LARGEST), largest


def _coded(graph: Graph, x: str, step: float) -> str:
    """Values through int8."""
    scale = _number(graph, step)
    zero = graph.once("zero code", lambda: graph.scalar("zero code", np.int8(0)))  # without it codes are unsigned
    return graph.op("DequantizeLinear", graph.op("QuantizeLinear", x, scale, zero), scale, zero)


def _number(graph: Graph, value: float) -> str:
    return graph.once(f"number.{value}", lambda: graph.scalar(f"number.{value}", np.float32(value)))
