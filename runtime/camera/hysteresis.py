"""Which answer counts: a new one has to be given several times in a row, and clearly, before the old one is dropped."""

from __future__ import annotations

from mobilevlm.errors import UserError

from .answer import Answer


class Hysteresis:
    """The answer that holds, and the one that may take its place.

    Args:
        hold: equal answers in a row that make a new answer count.
        margin: least difference between the two likeliest choices' probabilities; an answer below it does not count.

    Attributes:
        hold: as above.
        current: the answer that holds; None before the first.
        is_undecided: whether the latest answer did not count, or not yet.

    Raises:
        UserError: a number outside its range.
    """

    def __init__(self, hold: int = 1, margin: float = 0.0):
        if hold < 1:
            raise UserError(f"--hold is {hold}; it has to be at least 1")
        if not 0 <= margin < 1:
            raise UserError(f"--margin is {margin}; it has to be at least 0 and below 1")
        self.hold, self._margin = hold, margin
        self.current: str | None = None
        self.is_undecided = False
        self._candidate: str | None = None
        self._count = 0

    def push(self, answer: Answer) -> bool:
        """Takes the next answer in; returns whether it changed the one that holds."""
        self.is_undecided = True
        if answer.text is None or answer.margin < self._margin:
            return False
        if answer.text == self.current:
            self._settle(answer.text)
            return False
        self._count = self._count + 1 if answer.text == self._candidate else 1
        self._candidate = answer.text
        if self._count < self.hold:
            return False
        self._settle(answer.text)
        return True

    def _settle(self, text: str) -> None:
        self.current, self._candidate, self._count, self.is_undecided = text, None, 0, False
