"""int4 weights in blocks of 32 without zero points, int8 activations: `MatMulNBits` in the form that KleidiAI takes.

ONNX Runtime hands a layer to KleidiAI's Arm kernels, which multiply many rows as well as one, where blocks are whole
multiples of 32, there are no zero points, and activations may become int8 (`UseKleidiAI` in
onnxruntime/core/mlas/lib/qnbitgemm_kernel_neon.cpp, `accuracy_level` in contrib_ops/cpu/quantization/matmul_nbits.cc;
https://github.com/microsoft/onnxruntime/pull/23627). Without zero points a block has to be small to be as exact as
`int4`. KleidiAI gives an activation row one scale, ONNX Runtime's other kernels one for every 32 values: logits on a
phone and on a PC are close, not equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mobilevlm.engines.stage_form import FP32, INT8, StageForm

from . import a16w4, int4
from .facts import Facts
from .fp32 import transposed

if TYPE_CHECKING:
    import torch

    from ..split.graph import Graph

BLOCK = a16w4.BLOCK
READ_BYTES = 0.5 + 4 / BLOCK  # of a weight: half a byte, and its part of a float32 scale
FACTS = Facts(
    tolerance=0.5,  # that nothing is broken; what it costs is for the benchmarks to say
    bytes_per_weight=0.65,
    table_dtype=np.int8,
    form=StageForm(INT8, FP32, READ_BYTES, READ_BYTES, "float32", quantized=True),
    chooses_weights=True,
    packs_weights=True,
)


def linear(graph: Graph, x: str, names: tuple[str, ...]) -> str:
    """Writes a MatMulNBits with the quantised weight.

    Args:
        graph: receives nodes and weights.
        x: name of the input, (..., in).
        names: checkpoint layers without `.weight`, packed side by side into one output.
    """
    weight, name = transposed(graph, names), names[0]
    if len(weight) % BLOCK:  # which KleidiAI leaves to others anyhow
        return int4.linear(graph, x, names)
    values, scales = quantize(weight, graph.moments(name))
    inputs = [x, graph.initializer(f"{name}.codes", values), graph.initializer(f"{name}.scales", scales)]
    sizes = {"K": weight.shape[0], "N": weight.shape[1], "bits": 4, "block_size": BLOCK}
    return graph.op("MatMulNBits", *inputs, domain="com.microsoft", accuracy_level=int4.INT8_ACTIVATIONS, **sizes)


def quantize(weight: np.ndarray, moments: torch.Tensor | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Quantises a matrix.

    Args:
        weight: (K, N) float32, K a multiple of `BLOCK`.
        moments: (K, K) of its inputs on the calibration data, None to round each weight by itself.

    Returns:
        Quantised values (N, K / 32, 16) uint8, two in a byte, low half first; scales (N, K / 32) float32. A weight is
        `(value - 8) * scale`: 8 is what the operator takes for a zero point that is not there.
    """
    values, scales = a16w4.quantize(weight, moments)
    half = (values.T + a16w4.ZERO).astype(np.uint8).reshape(weight.shape[1], -1, BLOCK // 2, 2)
    return half[..., 0] | half[..., 1] << 4, np.ascontiguousarray(scales.T)
