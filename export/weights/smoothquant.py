"""Lets one int8 scale fit what LLaMA's down projections read, without changing what a model computes.

They read products of two layers' outputs, in which a few channels are a hundred times the others: a scale for all of
them leaves 12 to 17 dB. A channel may be divided by any number where `up_proj` writes it, if its weights in `down_proj`
are multiplied by it: SmoothQuant (arXiv 2211.10438). Dividing by all of a channel's largest value leaves no room in any
of them for what the next conversation brings; with this share of it a few hundred tokens are enough to go by.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

SHARE = 0.75  # power of a channel's largest value; tried on halves of the demo's conversations


class Smoothed(Mapping[str, torch.Tensor]):
    """A decoder's tensors, with the channels of the layers divided that were smoothed so far."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]):
        self._tensors = tensors
        self._factors: dict[str, torch.Tensor] = {}  # by weight, what it is multiplied by

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __getitem__(self, name: str) -> torch.Tensor:
        value = self._tensors[name]
        return value.float() * self._factors[name] if name in self._factors else value

    def smooth(self, layer: int, rows: torch.Tensor) -> torch.Tensor:
        """Divides the channels that a layer's down projection reads.

        Args:
            layer: its number.
            rows: (n, K) float32, what its down projection reads.

        Returns:
            The rows as it reads them from now on.
        """
        sizes, mlp = rows.abs().amax(0), f"model.layers.{layer}.mlp"
        factor = torch.where(sizes > 0, sizes, 1.0) ** SHARE
        factor /= factor.log().mean().exp()
        self._factors |= {f"{mlp}.up_proj.weight": 1 / factor[:, None], f"{mlp}.down_proj.weight": factor}
        return rows / factor
