"""Rounding that makes up for itself: GPTQ (arXiv 2210.17323), for weights in blocks that have a scale of their own.

Columns are rounded in order, and what a column loses is taken up by those that come after it, as far as their inputs
have gone along with its own on the calibration data. What is left of the error is what no later column can take up.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

# Added to the diagonal, as a fraction of its mean: trust in the weights where the data says little.
DAMPING = 0.01
ROWS = 4096  # taken at a time

# From a block's weights (N, width) to scales (N,), zero points (N,); see `round_blocks`.
Scales = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def round_blocks(
    weight: torch.Tensor, moments: torch.Tensor, width: int, levels: int, scales: Scales
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rounds a matrix.

    Args:
        weight: (N, K) float32.
        moments: (K, K) float32, sum of the outer products of the layer's inputs.
        width: columns that share a scale.
        levels: highest quantised value.
        scales: what a block's scales and zero points should be, its weights being as they are when its turn comes.

    Returns:
        Quantised values (N, K), scales and zero points (N, blocks), all float32. A weight is
        `(value - zero point) * scale`.
    """
    factor = _factor(moments)
    rows = [_round(part, factor, width, levels, scales) for part in weight.split(ROWS)]
    values, found_scales, zeros = (torch.cat(parts) for parts in zip(*rows, strict=True))
    return values, found_scales, zeros


def _round(
    weight: torch.Tensor, factor: torch.Tensor, width: int, levels: int, scales: Scales
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rest = weight.T.contiguous()  # a column of the weight is then a piece of memory
    quantized, found = torch.empty_like(rest), []
    for start in range(0, len(rest), width):
        block = slice(start, start + width)
        part, near = rest[block], factor[block, block]
        scale, zero = scales(part.T.contiguous())
        found.append((scale, zero))
        errors = torch.empty_like(part)
        for column, value in enumerate(part):
            rounded = (value / scale + zero).round_().clamp_(0, levels)
            quantized[start + column] = rounded
            errors[column] = (value - (rounded - zero) * scale) / near[column, column]
            part[column + 1 :].addr_(near[column, column + 1 :], errors[column], alpha=-1)
        after = slice(start + width, None)
        rest[after].addmm_(factor[block, after].T, errors, alpha=-1)
    scales_found, zeros = (torch.stack(parts, dim=1) for parts in zip(*found, strict=True))
    return quantized.T, scales_found, zeros


def _factor(moments: torch.Tensor) -> torch.Tensor:
    """Upper Cholesky factor of the damped moments' inverse, (K, K)."""
    diagonal = moments.diagonal()
    damped = moments + torch.diag_embed(torch.full_like(diagonal, DAMPING) * diagonal.mean().clamp(min=1e-30))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    return torch.linalg.cholesky(inverse, upper=True)
