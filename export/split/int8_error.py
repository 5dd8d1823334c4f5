"""Magnitudes of a layer's input, gathered row by row, and the signal to noise that int8 would leave."""

from __future__ import annotations

from math import log10

import torch

LARGEST = 127


class Magnitudes:
    """Magnitudes of the values that one layer reads.

    Attributes:
        largest: the largest absolute value.
    """

    def __init__(self) -> None:
        self.largest = 0.0
        self._rows, self._decibels = 0, 0.0

    def add(self, values: torch.Tensor) -> None:
        """Adds values (..., K) float32, rows of K."""
        self.largest = max(self.largest, float(values.abs().max()))
        powers = values.double().square().mean(-1).flatten()
        powers = powers[powers > 0]
        self._rows += len(powers)
        self._decibels += 10 * float(powers.log10().sum())

    @property
    def int8_db(self) -> float:
        """Signal-to-noise ratio in dB of a usual row in int8 with one scale for all, which the largest value sets.

        Usual is the geometric mean: a token or two of a real model's are a thousand times the others, and of all
        values together nearly all the power is theirs, which int8 has no trouble with.
        """
        if not self._rows:
            return float("inf")
        # Half a step and more is off by a twelfth of its square on average, and less by no more.
        return self._decibels / self._rows - 10 * log10((self.largest / LARGEST) ** 2 / 12)
