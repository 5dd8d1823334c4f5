"""How an answer is generated: the options of one `Reply`, and the contract of what restricts its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from mobilevlm.errors import UserError

from .sampling import Sampling


class Constraint(Protocol):
    """What restricts an answer's tokens, such as a grammar; for one answer at a time.

    Attributes:
        is_complete: whether the tokens so far are a whole answer that nothing can follow.
    """

    is_complete: bool

    def begin(self, limit: int) -> None:
        """Begins an answer of at most `limit` tokens."""

    def restrict(self, logits: np.ndarray) -> np.ndarray:
        """Rules out the tokens that may not come next.

        Args:
            logits: (V,) float32; not modified.

        Returns:
            (V,) float32, -inf for the tokens that are ruled out.
        """

    def accept(self, token: int) -> bool:
        """Takes the token that was chosen; False where it is refused: it is ruled out now, and another has to be."""


@dataclass(frozen=True)
class AnswerOptions:
    """Options of generating one answer.

    Attributes:
        sampling: how tokens are chosen; greedy by default.
        max_new_tokens: upper bound on the answer's length, >= 1.
        stop: strings that end the answer and are not part of it, besides the conversation template's.
        top_logprobs: how many of the likeliest tokens are noted with their log-probabilities beside each token of the
            answer, 0 to 20; None notes no log-probabilities.
        constraint: restricts the answer's tokens; None for any.

    Raises:
        UserError: a field is outside its range.
    """

    sampling: Sampling = field(default_factory=Sampling)
    max_new_tokens: int = 512
    stop: Sequence[str] = ()
    top_logprobs: int | None = None
    constraint: Constraint | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise UserError(f"max_new_tokens is {self.max_new_tokens}; at least one token has to be allowed")
        if not all(self.stop):
            raise UserError("a stop string is empty: every answer would end before it begins")
        if self.top_logprobs is not None and not 0 <= self.top_logprobs <= 20:
            raise UserError(f"top_logprobs is {self.top_logprobs}; it has to be 0 to 20")


def answer_options(sampling: Sampling | None, max_new_tokens: int) -> AnswerOptions:
    """Returns the options of an answer without stop strings, log-probabilities or constraint.

    Args:
        sampling: greedy when None.
        max_new_tokens: upper bound on the answer's length.
    """
    return AnswerOptions(sampling or Sampling(), max_new_tokens)
