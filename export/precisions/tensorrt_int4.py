"""int4 weights with a scale for every 128, decoded beside a float16 product: TensorRT's form of weights alone.

A layer that 128 does not divide has a scale for every 64.
`DequantizeLinear` gives the type of its scales, so these are float16 and nothing is cast between it and the product.
Values are chosen by GPTQ where there is calibration data, for the scales as float16 has them. The head stays float16,
because nothing after it makes up for its rounding; so does a layer of no whole blocks.
Form: https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-quantized-types.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mobilevlm.engines.stage_form import FP16, StageForm

from . import a16w4, tensorrt_fp16
from .facts import Facts
from .fp32 import transposed

if TYPE_CHECKING:
    import torch

    from ..split.graph import Graph

BLOCK = 128
BLOCKS = (BLOCK, 64)  # that TensorRT has kernels for
FACTS = Facts(
    tolerance=0.5,  # that nothing is broken; what it costs is for the benchmarks to say
    bytes_per_weight=0.65,
    table_dtype=np.float16,
    form=StageForm(FP16, FP16, 0.5 + 2 / BLOCK, 2, "float16", "tensorrt", quantized=True),
    chooses_weights=True,
    value_dtype=np.float16,
    opset=21,  # the first whose DequantizeLinear has blocks
)
SMALLEST_SCALE = float(np.finfo(np.float16).tiny)  # below it float16 has fewer bits


def linear(graph: Graph, x: str, names: tuple[str, ...]) -> str:
    """Writes a MatMul with the transposed weight, dequantised from int4.

    Args:
        graph: receives nodes and weights.
        x: name of the input, (..., in).
        names: checkpoint layers without `.weight`, packed side by side into one output.
    """
    stored = f"{names[0]}.codes", f"{names[0]}.scales"
    rows = graph.tensors[f"{names[0]}.weight"].shape[1]
    block = next((size for size in BLOCKS if rows % size == 0), None)
    if names[0] in a16w4.HEADS or block is None:
        return tensorrt_fp16.linear(graph, x, names)
    values, scales = a16w4.quantize(transposed(graph, names), graph.moments(names[0]), block, half_scales)
    graph.int4(stored[0], values)
    graph.initializer(stored[1], scales.astype(graph.dtype))
    return graph.op("MatMul", x, graph.op("DequantizeLinear", *stored, axis=0, block_size=block))


def half_scales(blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`a16w4.best_scales`, with scales that float16 has."""
    scales, zeros = a16w4.best_scales(blocks)
    return scales.clamp(min=SMALLEST_SCALE).half().float(), zeros
