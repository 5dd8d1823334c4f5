"""What a device hands back of a token's logits: the few that are largest, which is what choosing looks at.

All of them are a hundred kilobytes and a pass over the vocabulary for every token; these are one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .sampling import Sampling

# Of the mass, what the tokens that are not looked at may have: no draw of a session lands there.
NEGLIGIBLE = 1e-12


@dataclass(frozen=True)
class Likeliest:
    """The tokens with the largest logits after a call.

    Attributes:
        tokens: (K,) their ids.
        logits: (K,) float32, the largest first.
        vocabulary: how many tokens there are.
        everything: copies all logits from the device, (vocabulary,) float32; until the next call.
    """

    tokens: np.ndarray
    logits: np.ndarray
    vocabulary: int
    everything: Callable[[], np.ndarray]

    def decides(self, sampling: Sampling) -> bool:
        """Whether a choice among these is the choice among all.

        It is where none of the others can be chosen: those that tie with the last one here may be left out of them. A
        repetition penalty, or a distribution so flat that the others count, needs them all.
        """
        if sampling.repetition_penalty != 1 or not np.isfinite(self.logits).all():
            return False
        others = self.vocabulary - len(self.tokens)
        if others == 0:
            return True
        if sampling.temperature == 0:
            return bool(self.logits[0] > self.logits[-1])
        scores = self.logits / sampling.temperature  # in float32, as they are chosen by
        if sampling.top_k is not None and sampling.top_k < len(scores):
            return bool(scores[sampling.top_k - 1] > scores[-1])
        weights = np.exp(scores - scores[0], dtype=np.float64)
        return bool(others * weights[-1] < NEGLIGIBLE * weights.sum())

    def in_order(self) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and logits, as they follow each other in the vocabulary: of equal ones the first is chosen."""
        order = self.tokens.argsort()
        return self.tokens[order], self.logits[order]
