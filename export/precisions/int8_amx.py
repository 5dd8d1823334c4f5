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

from mobilevlm.engines import machine
from mobilevlm.engines.ort import openvino
from mobilevlm.engines.stage_form import FP32, INT8, OPENVINO, StageForm

from .facts import Facts, SeparatePrefill
from .fp32 import transposed
from .int8 import LARGEST, SMALLEST_ROW, exact_scales, quantize
from .tensorrt_int8 import LEAST_DB

if TYPE_CHECKING:
    from ..split.graph import Graph


def suits_machine() -> bool:
    """A CPU with AMX, and an OpenVINO to use it."""
    return machine.has_amx() and openvino.is_installed()


FACTS = Facts(
    tolerance=0.2,  # that nothing is broken; what it costs is for the benchmarks to say
    bytes_per_weight=1.06,
    table_dtype=np.float16,
    form=StageForm(INT8, FP32, 1, 1, "float32", OPENVINO, quantized=True),
    has_qdq=True,
    lowering="ort_openvino",
    prefill=SeparatePrefill(decoder="int4", layers=1),  # OpenVINO's graphs are alike then, and compiled once
    suits_machine=suits_machine,
)


def linear(graph: Graph, x: str, names: tuple[str, ...], factors: str | None = None) -> str:
    """Writes a MatMul of rows and a weight, both dequantised from int8: one int8 product where a runtime has that.

    Args:
        graph: receives nodes and weights.
        x: name of the input, (1, S, in).
        names: checkpoint layers without `.weight`, packed side by side into one output.
        factors: name of pending factors of the rows of `x`, (1, S, 1), from `up_to_factors`; None for none.
    """
    y, own = up_to_factors(graph, x, names)
    # Factors are a number for each row, sooner multiplied than rows.
    both = graph.op("Mul", own, factors) if own and factors else own or factors
    return graph.op("Mul", y, both) if both else y


def up_to_factors(graph: Graph, x: str, names: tuple[str, ...]) -> tuple[str, str | None]:
    """Writes the product before its rows are rescaled.

    Args:
        graph: receives nodes and weights.
        x: name of the input, (1, S, in).
        names: checkpoint layers without `.weight`, packed side by side into one output.

    Returns:
        (y, factors): names of the output and of its rows' pending factors, (1, S, 1); None where none are pending.
    """
    weight = transposed(graph, names)
    values, scales = quantize(weight, exact_scales(weight))
    stored, seen = graph.initializer(f"{names[0]}.codes", values.T), graph.magnitudes(names[0])
    if seen is not None and seen.int8_db >= LEAST_DB:
        step = seen.largest / LARGEST
        rows = graph.once(f"{x}.values", lambda: _quantized(graph, x, step))
        own = graph.initializer(f"{names[0]}.scales", scales)
        return _product(graph, rows, graph.op("DequantizeLinear", stored, own, axis=0)), None
    rows, largest = graph.once(f"{x}.rows", lambda: _quantized_rows(graph, x))
    y = _product(graph, rows, graph.op("DequantizeLinear", stored, _number(graph, 1 / LARGEST)))
    return graph.op("Mul", y, graph.initializer(f"{names[0]}.scales", scales * LARGEST)), largest


def _product(graph: Graph, rows: str, weight: str) -> str:
    return graph.op("MatMul", rows, graph.op("Transpose", weight, perm=[1, 0]))


def _quantized_rows(graph: Graph, x: str) -> tuple[str, str]:
    """(1, S, K) rows divided by their largest value, quantised to int8 and back, and these values, (1, S, 1)."""
    axis = graph.once("row axis", lambda: graph.constant(np.array([2])))
    largest, lowest = (graph.op(f"Reduce{end}", x, axis, keepdims=1) for end in ("Max", "Min"))
    least = graph.once("least row", lambda: graph.constant(np.array(SMALLEST_ROW, np.float32)))
    largest = graph.op("Max", largest, graph.op("Neg", lowest), least)
    return _quantized(graph, graph.op("Div", x, largest), 1 / LARGEST), largest


def _quantized(graph: Graph, x: str, step: float) -> str:
    """Values quantised to int8 and back."""
    scale = _number(graph, step)
    zero = graph.once("zero code", lambda: graph.scalar("zero code", np.int8(0)))  # without it values are unsigned
    return graph.op("DequantizeLinear", graph.op("QuantizeLinear", x, scale, zero), scale, zero)


def _number(graph: Graph, value: float) -> str:
    return graph.once(f"number.{value}", lambda: graph.scalar(f"number.{value}", np.float32(value)))
