"""int4 weights in blocks of 128, int8 activations: `MatMulNBits` of ONNX Runtime, an eighth of float32's bytes.

Each block of a row has a scale and a zero point of its own. The scale is the one of several shrunken ranges that leaves
the smallest squared error, then fitted to the quantised values by least squares: outliers are clipped for the sake of
the many. With calibration data, values are then chosen by GPTQ (`export/weights/gptq.py`).
Operator: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulNBits
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mobilevlm.engines.stage_form import FP32, INT8, StageForm

from .facts import Facts
from .fp32 import transposed

if TYPE_CHECKING:
    import torch

    from ..split.graph import Graph

BLOCK = 128
READ_BYTES = 0.5 + 4.5 / BLOCK  # of a weight: half a byte, and its part of a float32 scale and an int4 zero point
FACTS = Facts(
    tolerance=0.5,  # that nothing is broken; what it costs is for the benchmarks to say
    bytes_per_weight=0.56,
    table_dtype=np.int8,
    form=StageForm(INT8, FP32, READ_BYTES, READ_BYTES, "float32", quantized=True),
    chooses_weights=True,
    packs_weights=True,
)
LEVELS = 15
INT8_ACTIVATIONS = 4  # MatMulNBits' accuracy_level
# Parts of a block's range that its 16 levels span.
RANGES = (1.0, 0.96, 0.92, 0.88, 0.84, 0.8, 0.75, 0.7)
ROWS = 4096  # blocks quantised at a time: what fits a core's cache


def linear(graph: Graph, x: str, names: tuple[str, ...]) -> str:
    """Writes a MatMulNBits with the quantised weight.

    Args:
        graph: receives nodes and weights.
        x: name of the input, (..., in).
        names: checkpoint layers without `.weight`, packed side by side into one output.
    """
    weight = transposed(graph, names).T
    name = names[0]
    values, scales, zeros = quantize(weight, graph.moments(name))
    inputs = [
        x,
        graph.initializer(f"{name}.codes", values),
        graph.initializer(f"{name}.scales", scales),
        graph.initializer(f"{name}.zero_points", zeros),
    ]
    rows, columns = weight.shape
    sizes = {"K": columns, "N": rows, "bits": 4, "block_size": BLOCK}
    return graph.op("MatMulNBits", *inputs, domain="com.microsoft", accuracy_level=INT8_ACTIVATIONS, **sizes)


def quantize(weight: np.ndarray, moments: torch.Tensor | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Quantises a float32 (N, K) matrix.

    Args:
        weight: the matrix.
        moments: (K, K) of its inputs on the calibration data, see `decoder_activations.Observed`.

    Returns:
        Quantised values (N, blocks, 64) uint8, two in a byte, low half first; scales (N, blocks) float32; zero points
        (N, ceil(blocks / 2)) uint8, packed likewise. A weight is `(value - zero point) * scale`.
    """
    import torch

    from ..weights.gptq import round_blocks

    rows, columns = weight.shape
    blocks = -(-columns // BLOCK)
    exact = torch.from_numpy(np.ascontiguousarray(weight))
    if moments is None:
        values, scales, zeros = _round_each(torch.nn.functional.pad(exact, (0, blocks * BLOCK - columns)))
    else:
        values, scales, zeros = round_blocks(exact, moments, BLOCK, LEVELS, best_scales)
        values = torch.nn.functional.pad(values, (0, blocks * BLOCK - columns))
    half = values.to(torch.uint8).view(rows, blocks, BLOCK // 2, 2)
    points = torch.nn.functional.pad(zeros.to(torch.uint8), (0, blocks % 2))
    packed = points[:, 0::2] | points[:, 1::2] << 4
    return (half[..., 0] | half[..., 1] << 4).numpy(), scales.numpy(), packed.numpy()


def _round_each(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Quantised values, scales and zero points as `gptq.round_blocks` returns them, every value the nearest."""
    import torch

    blocks = weight.view(-1, BLOCK)
    values, scales, zeros = torch.empty_like(blocks, dtype=torch.uint8), *torch.empty(2, len(blocks))
    for part in torch.arange(len(blocks)).split(ROWS):
        chosen = slice(int(part[0]), int(part[-1]) + 1)
        scale, zero = scales[chosen], zeros[chosen] = best_scales(blocks[chosen])
        values[chosen] = _multiples(blocks[chosen], scale[:, None], zero[:, None]) + zero[:, None]
    shape = len(weight), weight.shape[1] // BLOCK
    return values.view(len(weight), -1), scales.view(shape), zeros.view(shape)


def best_scales(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scales and zero points (N,) of blocks (N, up to BLOCK)."""
    import torch

    low, high = weight.amin(-1, keepdim=True).clamp(max=0), weight.amax(-1, keepdim=True).clamp(min=0)
    width = high - low
    width[width == 0] = LEVELS  # a block of zeros
    zero = (-LEVELS * low / width).round()
    best, scale = torch.full_like(width, torch.inf), width / LEVELS
    for part in RANGES:
        tried = width * (part / LEVELS)
        steps = _multiples(weight, tried, zero)
        tried = _fitted(weight, steps, tried)
        error = (steps * tried).sub_(weight).square_().sum(-1, keepdim=True)
        scale = torch.where(error < best, tried, scale)
        best = torch.minimum(error, best)
    return scale[:, 0], zero[:, 0]


def _multiples(weight: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor) -> torch.Tensor:
    """Quantised values less zero points: whole multiples of the scale."""
    return (weight / scale).round_().clamp_(-zero, LEVELS - zero)


def _fitted(weight: torch.Tensor, steps: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The scale that leaves these multiples the smallest squared error."""
    import torch

    power = steps.square().sum(-1, keepdim=True)
    fitted = (weight * steps).sum(-1, keepdim=True) / power
    return torch.where((power > 0) & (fitted > 0), fitted, scale)
