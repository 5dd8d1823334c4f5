"""Tokens of an answer that has to be a JSON document of a schema, and that is complete when its tokens are used up.

Two matchers of llguidance go along: one over the model's tokens says which may come next, one over bytes is asked how
the document could be ended from here (`closing.py`). A token behind which it could no longer be ended within the
tokens that are left is not accepted: so once there is such an ending, the answer is a whole document.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mobilevlm.errors import UserError

from .closing import closing
from .document import Document
from .pieces import Pieces
from .schema import refusal
from .string_ending import BYTES

if TYPE_CHECKING:
    from llguidance import LLMatcher

_LONGEST_ENDING = 4096  # bytes
_REFUSALS = 8  # tokens that are refused at one place before the ending is taken
_SHARE = 4  # a string or an array leaves one part in so many of the tokens to what follows it


@dataclass(frozen=True)
class Position:
    """Where an answer stands.

    Attributes:
        matcher: over the model's tokens.
        bytewise: over bytes.
        document: what is open.
        count: tokens so far.
        allowed: (V,) bool, tokens that the grammar lets come next.
        rest: bytes that would end the document, None where no way was found.
        ending: tokens that spell them.
    """

    matcher: LLMatcher
    bytewise: LLMatcher
    document: Document
    count: int
    allowed: np.ndarray
    rest: bytes | None
    ending: tuple[int, ...] | None

    def closes_within(self, limit: int) -> bool:
        """Whether the document can be ended with at most `limit` tokens in all."""
        return self.ending is not None and self.count + len(self.ending) <= limit


class JsonConstraint:
    """Restriction of one answer at a time to the documents of a JSON schema; see `answer_options.Constraint`.

    Args:
        pieces: the model's tokens.
        eos_id: token that ends an answer.
        matcher: of the schema, over the model's tokens, at the beginning.
        bytewise: the same over bytes.

    Attributes:
        is_complete: whether the tokens so far are a whole document that nothing can follow.
        shortest: number of tokens of the shortest document that was found; an answer of fewer may not become one.

    Raises:
        UserError: no document of the schema was found.
    """

    def __init__(self, pieces: Pieces, eos_id: int, matcher: LLMatcher, bytewise: LLMatcher):
        self._pieces, self._eos_id, self._limit = pieces, eos_id, _LONGEST_ENDING
        start = self._position(matcher, bytewise, Document(), 0, ())
        if start.rest is None or not start.allowed.any():
            reason = matcher.get_error() or bytewise.get_error()
            raise UserError(
                refusal(
                    reason or f"no document of at most {_LONGEST_ENDING} bytes was found, or its grammar is too large"
                )
            )
        if start.ending is None:
            raise UserError(refusal("the model's vocabulary lacks characters that every document has"))
        self._start, self.shortest = start, len(start.ending)
        self.begin(_LONGEST_ENDING)

    def begin(self, limit: int) -> None:
        """Begins an answer of at most `limit` tokens."""
        self._limit, self._at, self.is_complete = limit, self._start, False
        self._refused: set[int] = set()

    def restrict(self, logits: np.ndarray) -> np.ndarray:
        """Rules out the tokens that may not come next.

        Args:
            logits: (V,) float32; not modified.

        Returns:
            (V,) float32, -inf for the tokens that are ruled out.

        Raises:
            UserError: the grammar of the schema became too large on the way.
        """
        if not self._at.allowed.any():
            raise UserError(refusal(self._at.matcher.get_error() or "the grammar has no way on"))
        forced = self._forced()
        if forced is None:
            allowed = self._at.allowed.copy()
            allowed[list(self._refused)] = False
        else:
            allowed = np.zeros(len(logits), bool)
            allowed[forced] = True
        return np.where(allowed, logits, np.float32(-np.inf))

    def accept(self, token: int) -> bool:
        """Takes the token that was chosen; False where it is refused: it is ruled out now, and another has to be."""
        if token == self._eos_id:
            self.is_complete = True
            return True
        before, after = self._at, self._after(token)
        if before.ending is not None and token != self._forced():
            lost = before.closes_within(self._limit) and not after.closes_within(self._limit)
            if lost or after.document.excess or not after.allowed.any():
                self._refused.add(token)
                return False
        self._at, self._refused = after, set()
        ends = after.matcher.is_accepting() and after.count == self._limit
        self.is_complete = ends or after.matcher.is_stopped()
        return True

    def _forced(self) -> int | None:
        """Returns the only token that may come next where the ending has to be taken, otherwise None."""
        at = self._at
        if at.ending is None:
            return None
        left = int(at.allowed.sum()) - len(self._refused)
        if left and len(self._refused) < _REFUSALS and not at.document.is_overdue(at.count):
            return None
        # The ending that is known may have been found elsewhere; the one that is taken ends first what is open here.
        rest = closing(at.bytewise, at.document, _LONGEST_ENDING)
        ending = None if rest is None else self._pieces.fewest(rest)
        if ending is not None and (at.count + len(ending) <= self._limit or len(ending) <= len(at.ending)):
            self._at = at = replace(at, rest=rest, ending=ending)
        return at.ending[0] if at.ending else self._eos_id

    def _after(self, token: int) -> Position:
        """Returns the position behind one more token that the grammar allows."""
        at, data = self._at, self._pieces.tokens[token]
        matcher, bytewise, count = at.matcher.deep_copy(), at.bytewise.deep_copy(), at.count + 1
        matcher.consume_token(token)
        bytewise.consume_tokens(list(data))
        document = at.document.after(data, count + (self._limit - count) * (_SHARE - 1) // _SHARE)
        known = () if at.rest is None else (at.rest.removeprefix(data), at.rest[len(data) :], at.rest)
        return self._position(matcher, bytewise, document, count, known)

    def _position(
        self, matcher: LLMatcher, bytewise: LLMatcher, document: Document, count: int, known: Sequence[bytes]
    ) -> Position:
        """Returns a position with an ending: one of those known where it still is one and is short enough."""
        size = len(self._pieces.tokens)
        allowed = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), count=size, bitorder="little")
        if matcher.is_error():
            allowed[:] = 0
        for rest in known:
            if bytewise.validate_tokens([*rest, BYTES]) == len(rest) + 1:
                ending = self._pieces.fewest(rest)
                if ending is not None and count + len(ending) <= self._limit:
                    return Position(matcher, bytewise, document, count, allowed.astype(bool), rest, ending)
        found = closing(bytewise, document, _LONGEST_ENDING)
        ending = None if found is None else self._pieces.fewest(found)
        return Position(matcher, bytewise, document, count, allowed.astype(bool), found, ending)
