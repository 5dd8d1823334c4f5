"""int4 weights in blocks of 128, int8 activations: `MatMulNBits` of ONNX Runtime, an eighth of float32's bytes.

Each block of a row has a scale and a zero point of its own. The scale is the one of several shrunken ranges that leaves
the smallest squared error, then fitted to the codes by least squares: weights far out are cut for the sake of the many.
Operator: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulNBits
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from .fp32 import transposed

if TYPE_CHECKING:
    from ..graph import Graph

TOLERANCE = 0.5  # that nothing is broken; what it costs is for the benchmarks to say
BYTES = 0.56
TABLE_DTYPE = np.float16

BLOCK = 128
LEVELS = 15
INT8_ACTIVATIONS = 4  # MatMulNBits' accuracy_level
# Parts of a block's range that its 16 levels span.
RANGES = (1.0, 0.96, 0.92, 0.88, 0.84, 0.8, 0.75, 0.7)
ROWS = 256  # quantised at a time: what fits a core's cache


def linear(graph: Graph, x: str, names: tuple[str, ...]) -> str:
    """MatMulNBits with the quantised weight."""
    weight = transposed(graph, names).T
    codes, scales, zeros = quantize(weight)
    name = names[0]
    inputs = [
        x,
        graph.initializer(f"{name}.codes", codes),
        graph.initializer(f"{name}.scales", scales),
        graph.initializer(f"{name}.zero_points", zeros),
    ]
    rows, columns = weight.shape
    sizes = {"K": columns, "N": rows, "bits": 4, "block_size": BLOCK}
    return graph.op("MatMulNBits", *inputs, domain="com.microsoft", accuracy_level=INT8_ACTIVATIONS, **sizes)


def quantize(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Quantise a float32 (N, K) matrix.

    Returns:
        Codes (N, blocks, 64) uint8, two in a byte, low half first; scales (N, blocks) float32; zero points
        (N, ceil(blocks / 2)) uint8, packed likewise. A weight is `(code - zero point) * scale`.
    """
    rows, columns = weight.shape
    blocks = -(-columns // BLOCK)
    codes = np.empty((rows, blocks, BLOCK // 2), np.uint8)
    scales = np.empty((rows, blocks), np.float32)
    zeros = np.zeros((rows, -(-blocks // 2) * 2), np.uint8)
    for start in range(0, rows, ROWS):
        part = slice(start, min(start + ROWS, rows))
        padded = torch.zeros(part.stop - part.start, blocks * BLOCK)
        padded[:, :columns] = torch.from_numpy(np.ascontiguousarray(weight[part]))
        found = _quantize_blocks(padded.view(-1, blocks, BLOCK))
        half = found[0].view(-1, blocks, BLOCK // 2, 2)
        codes[part] = (half[..., 0] | half[..., 1] << 4).numpy()
        scales[part], zeros[part, :blocks] = found[1].numpy(), found[2].numpy()
    return codes, scales, zeros[:, 0::2] | zeros[:, 1::2] << 4


def _quantize_blocks(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Codes (N, blocks, BLOCK), scales and zero points (N, blocks) of weights (N, blocks, BLOCK)."""
    low, high = weight.amin(-1, keepdim=True).clamp(max=0), weight.amax(-1, keepdim=True).clamp(min=0)
    width = high - low
    width[width == 0] = LEVELS  # a block of zeros
    zero = (-LEVELS * low / width).round()
    best, scale = torch.full_like(width, torch.inf), width / LEVELS
    for part in RANGES:
        tried = width * (part / LEVELS)
        steps = _steps(weight, tried, zero)
        tried = _fitted(weight, steps, tried)
        error = (steps * tried).sub_(weight).square_().sum(-1, keepdim=True)
        scale = torch.where(error < best, tried, scale)
        best = torch.minimum(error, best)
    codes = _steps(weight, scale, zero) + zero
    return codes.to(torch.uint8), scale[..., 0], zero[..., 0].to(torch.uint8)


def _steps(weight: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor) -> torch.Tensor:
    """Codes less zero points: whole multiples of the scale."""
    return (weight / scale).round_().clamp_(-zero, LEVELS - zero)


def _fitted(weight: torch.Tensor, steps: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The scale that leaves these steps the smallest squared error."""
    power = steps.square().sum(-1, keepdim=True)
    fitted = (weight * steps).sum(-1, keepdim=True) / power
    return torch.where((power > 0) & (fitted > 0), fitted, scale)
