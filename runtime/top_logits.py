"""Logits as a decoder returns them: all of a token's, or from a device the few largest, which is what sampling reads.

All of them are a hundred kilobytes and a pass over the vocabulary for every token; the few are one kilobyte.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np


@dataclass(frozen=True)
class TopLogits:
    """The largest logits after a call; `np.asarray` copies all of them from the device, until the next call.

    Attributes:
        tokens: (K,) integers, ids of the tokens that have them.
        logits: (K,) float32, in descending order.
        vocabulary: number of tokens in the vocabulary, V.
        fetch_all: copies all logits from the device: (V,) float32, in the order of the vocabulary.
    """

    tokens: np.ndarray
    logits: np.ndarray
    vocabulary: int
    fetch_all: Callable[[], np.ndarray]

    def in_order(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns tokens and logits in the order of the vocabulary: of equal logits the first token is sampled."""
        order = self.tokens.argsort()
        return self.tokens[order], self.logits[order]

    def __array__(self, dtype: Any = None, /, *, copy: bool | None = None) -> np.ndarray:
        logits = np.asarray(self.fetch_all(), dtype)
        return logits.copy() if copy else logits


# (V,) float32, or the largest of them; `np.asarray` makes (V,) float32 of either.
Logits: TypeAlias = np.ndarray | TopLogits


def most_likely(logits: Logits) -> int:
    """Returns the id of the token with the largest logit; of equal ones the first in the vocabulary, or in the few."""
    return int(logits.tokens[0] if isinstance(logits, TopLogits) else logits.argmax())
