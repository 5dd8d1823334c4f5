"""int4 weights with a scale for every 32, for graphs whose values become 16-bit integers (`backends/qnn/qdq.py`).

Half the bytes of `a16w8`, which a token's time is made of. Values are chosen by GPTQ where there is calibration data.
The head has 8 bits, because nothing after it makes up for its rounding; so has a layer of no whole blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mobilevlm.engines.stage_form import INT16, StageForm

from . import a16w8
from .facts import Facts
from .fp32 import transposed

if TYPE_CHECKING:
    import torch

    from ..split.graph import Graph
    from ..weights.gptq import Scales

BLOCK = 32
FACTS = Facts(
    tolerance=0.5,  # that nothing is broken; what it costs is for the benchmarks to say
    bytes_per_weight=0.66,
    table_dtype=np.float16,
    form=StageForm(INT16, INT16, 0.5 + 4 / BLOCK, 1, "uint8", "qnn"),
    chooses_weights=True,
    fixes_ranges=True,
    budget_db=10.0,
)
LEVELS, ZERO = 15, 8
HEADS = ("lm_head", "model.embed_tokens")
# Parts of a block's range that its levels span.
RANGES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)


def linear(graph: Graph, x: str, names: tuple[str, ...]) -> str:
    """Writes a MatMul with the transposed weight, dequantised from int4.

    Args:
        graph: receives nodes and weights.
        x: name of the input, (..., in).
        names: checkpoint layers without `.weight`, packed side by side into one output.
    """
    weight = transposed(graph, names)
    if names[0] in HEADS or len(weight) % BLOCK:
        return a16w8.linear(graph, x, names)
    values, scales = quantize(weight, graph.moments(names[0]))
    stored = graph.int4(f"{names[0]}.codes", values), graph.initializer(f"{names[0]}.scales", scales)
    return graph.op("MatMul", x, graph.op("DequantizeLinear", *stored, axis=0, block_size=BLOCK))


def quantize(
    weight: np.ndarray, moments: torch.Tensor | None = None, block: int = BLOCK, find_scales: Scales | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Quantises a float32 (K, N) matrix.

    Args:
        weight: K divides by `block`.
        moments: (K, K) second moments of what the layer reads, None to round each weight by itself.
        block: weights that share a scale.
        find_scales: for their form; `best_scales` if None.

    Returns:
        Quantised values (K, N) int8, -8 to 7, and scales (K / block, N) float32; a weight is `value * scale`.
    """
    import torch

    from ..weights.gptq import round_blocks

    find_scales = find_scales or best_scales
    rows = torch.from_numpy(np.ascontiguousarray(weight.T))
    if moments is None:
        blocks = rows.reshape(-1, block)
        scales, _ = find_scales(blocks)
        values = (blocks / scales[:, None]).round_().clamp_(-ZERO, LEVELS - ZERO)
        values, scales = values.view(rows.shape), scales.view(len(rows), -1)
    else:
        values, scales, _ = round_blocks(rows, moments, block, LEVELS, find_scales)
        values = values - ZERO
    return values.T.to(torch.int8).numpy(), np.ascontiguousarray(scales.T.numpy())


def best_scales(blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scales (N,) of blocks (N, BLOCK), those of several shrunken ranges that leave the least error; zero points."""
    import torch

    # The side with one level more is that of the larger end.
    end = torch.where(blocks.amax(1) > -blocks.amin(1), blocks.amax(1) / (LEVELS - ZERO), -blocks.amin(1) / ZERO)
    end = torch.where(end > 0, end, 1.0)
    best, scale = torch.full_like(end, torch.inf), end
    for part in RANGES:
        tried = (end * part)[:, None]
        values = (blocks / tried).round_().clamp_(-ZERO, LEVELS - ZERO)
        error = values.mul_(tried).sub_(blocks).square_().sum(1)
        scale = torch.where(error < best, tried[:, 0], scale)
        best = torch.minimum(best, error)
    return scale, torch.full_like(scale, ZERO)
