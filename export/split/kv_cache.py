"""Size and type of the kv cache, as a graph is written for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CacheForm:
    """Size and type of the kv cache.

    Attributes:
        rows: the most it can hold.
        scales: layer, and `key` or `value`, to the scale of each channel of an int8 cache, (kv heads * head_dim,)
            float32; None for a float32 cache.
    """

    rows: int
    scales: Callable[[int, str], np.ndarray] | None = None

    def int8_scale(self, layer: int, part: str) -> np.ndarray:
        """Returns the dequantisation scale of an int8 cache's channels, (kv heads * head_dim,) float32.

        Args:
            layer: of the decoder.
            part: `key` or `value`.

        Raises:
            ValueError: the cache is float32.
        """
        if self.scales is None:
            raise ValueError("a float32 kv cache has no scales")
        return self.scales(layer, part)
