"""`int8` in standard operators, which OpenVINO runs on an Intel CPU's matrix unit, AMX.

What a layer reads has one scale, found on calibration data, where int8 leaves enough of it (see `tensorrt_int8`), which
costs nothing to apply. Elsewhere rows are divided by their largest value first, so that one scale fits all of them, and
the product is multiplied by it again. Weights lie as their checkpoint has them, (out, in): OpenVINO reads them in that
form where they are mapped from a file (`engines/openvino.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .fp32 import transposed
from .int8 import LARGEST, SMALLEST_ROW, quantize
from .tensorrt_int8 import LEAST_DB

if TYPE_CHECKING:
    from ..graph import Graph

TOLERANCE = 0.2  # that nothing is broken; what it costs is for the benchmarks to say
BYTES = 1.06
TABLE_DTYPE = np.float16


def linear(graph: Graph, x: str, names: tuple[str, ...]) -> str:
    """MatMul of rows and a weight, both decoded from int8: one product of codes where a runtime has that."""
    codes, scales = quantize(transposed(graph, names))
    stored = graph.initializer(f"{names[0]}.codes", codes.T), graph.initializer(f"{names[0]}.scales", scales)
    weight = graph.op("Transpose", graph.op("DequantizeLinear", *stored, axis=0), perm=[1, 0])
    seen = graph.magnitudes(names[0])
    if seen is not None and seen.int8_db >= LEAST_DB:
        return graph.op("MatMul", graph.once(f"{x}.values", lambda: _coded(graph, x, seen.largest / LARGEST)), weight)
    rows, largest = graph.once(f"{x}.rows", lambda: _coded_rows(graph, x))
    return graph.op("Mul", graph.op("MatMul", rows, weight), largest)


def _coded_rows(graph: Graph, x: str) -> tuple[str, str]:
    """(1, S, K) rows between -1 and 1 through int8, and what to multiply them by, (1, S, 1)."""
    axis = graph.once("row axis", lambda: graph.constant(np.array([2])))
    largest, lowest = (graph.op(f"Reduce{end}", x, axis, keepdims=1) for end in ("Max", "Min"))
    least = graph.once("least row", lambda: graph.constant(np.array(SMALLEST_ROW, np.float32)))
    largest = graph.op("Max", largest, graph.op("Neg", lowest), least)
    return _coded(graph, graph.op("Div", x, largest), 1 / LARGEST), largest


def _coded(graph: Graph, x: str, step: float) -> str:
    """Values through int8."""
    scale = graph.once(f"step.{step}", lambda: graph.scalar(f"step.{step}", np.float32(step)))
    zero = graph.once("zero code", lambda: graph.scalar("zero code", np.int8(0)))  # without it codes are unsigned
    return graph.op("DequantizeLinear", graph.op("QuantizeLinear", x, scale, zero), scale, zero)
