"""How large the values are that a layer reads, gathered bit by bit, and what int8 would leave of them."""

from __future__ import annotations

from math import log10

import torch

LARGEST = 127
# Eighths of an octave, from far below a float16 to beyond it.
FINENESS, LOWEST, HIGHEST = 8, -30, 20


class Magnitudes:
    """A histogram of one layer's input."""

    def __init__(self):
        self.largest = 0.0
        bins = (HIGHEST - LOWEST) * FINENESS
        self._counts, self._squares = torch.zeros(bins, dtype=torch.float64), torch.zeros(bins, dtype=torch.float64)

    def add(self, values: torch.Tensor) -> None:
        """Take some more into account, float32."""
        sizes = values.abs().flatten()
        self.largest = max(self.largest, float(sizes.max()))
        places = ((sizes.log2() - LOWEST) * FINENESS).clamp_(0, len(self._counts) - 1).long()
        self._counts += torch.bincount(places, minlength=len(self._counts))
        self._squares += torch.bincount(places, sizes.double().square(), len(self._counts))

    @property
    def int8_db(self) -> float:
        """Power of the values over that of what rounding to int8 takes, when the largest is still a code."""
        step = self.largest / LARGEST
        ends = 2.0 ** (LOWEST + (torch.arange(len(self._counts)) + 0.5) / FINENESS)
        # Half a step and more is off by a twelfth of its square on average; less becomes zero.
        lost = torch.where(ends < step / 2, self._squares, self._counts * step**2 / 12).sum()
        return 10 * log10(float(self._squares.sum() / lost)) if lost else float("inf")
