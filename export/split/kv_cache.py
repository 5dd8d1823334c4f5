"""What a graph has to know of the kv cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CacheForm:
    """The cache's size and type.

    Attributes:
        rows: the most it can hold.
        steps: what a code of each channel of a layer's `key` or `value` is worth, (kv heads * head_dim,) float32, for
            an int8 cache; None for a float32 one.
    """

    rows: int
    steps: Callable[[int, str], np.ndarray] | None = None
