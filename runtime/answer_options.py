"""How an answer is generated: the options of one `Reply`, and the contract of what restricts its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from mobilevlm.errors import UserError, require, shown

from .arguments import is_integer, texts
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


_OF_A_CONSTRAINT = ("begin", "restrict", "accept", "is_complete")


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
        require(isinstance(self.sampling, Sampling), "sampling", self.sampling, "a Sampling, or None (greedy)")
        count, top = self.max_new_tokens, self.top_logprobs
        require(is_integer(count) and count >= 1, "max_new_tokens", count, "an integer >= 1")
        object.__setattr__(self, "stop", texts("stop", self.stop))  # a tuple: a generator would be used up
        if not all(self.stop):
            raise UserError("a stop string is empty: every answer would end before it begins")
        if top is not None and not (is_integer(top) and 0 <= top <= 20):
            raise UserError(f"top_logprobs is {shown(top)}; it has to be 0 to 20, or None for none")
        constraint_ok = self.constraint is None or all(hasattr(self.constraint, name) for name in _OF_A_CONSTRAINT)
        require(constraint_ok, "constraint", self.constraint, "what Session.json_constraint returns, or None")


def answer_options(
    sampling: Sampling | None, max_new_tokens: int, constraint: Constraint | None = None
) -> AnswerOptions:
    """Returns the options of an answer without stop strings or log-probabilities.

    Args:
        sampling: greedy when None.
        max_new_tokens: upper bound on the answer's length.
        constraint: restricts the answer's tokens; None for any.
    """
    return AnswerOptions(Sampling() if sampling is None else sampling, max_new_tokens, constraint=constraint)
