"""A vocabulary's tokens by the bytes that they spell."""

from __future__ import annotations

from collections.abc import Sequence


class Pieces:
    """Tokens of a vocabulary.

    Args:
        tokens: bytes of every token, empty for one that is no text.

    Attributes:
        tokens: as above.
    """

    def __init__(self, tokens: Sequence[bytes]):
        self.tokens = tokens
        self._ids: dict[bytes, int] = {}
        for index, data in enumerate(tokens):
            if data:
                self._ids.setdefault(data, index)
        self._longest = max(map(len, self._ids), default=0)

    def fewest(self, data: bytes) -> tuple[int, ...] | None:
        """Returns the fewest tokens that spell bytes; None where these tokens cannot."""
        # For each place, from the end: how many tokens spell what begins there, and the length of the first.
        counts, steps = [0] * (len(data) + 1), [0] * (len(data) + 1)
        impossible = len(data) + 1
        for start in range(len(data) - 1, -1, -1):
            counts[start] = impossible
            for length in range(1, min(self._longest, len(data) - start) + 1):
                if counts[start + length] + 1 <= counts[start] and data[start : start + length] in self._ids:
                    counts[start], steps[start] = counts[start + length] + 1, length
        if counts[0] >= impossible:
            return None
        result, place = [], 0
        while place < len(data):
            result.append(self._ids[data[place : place + steps[place]]])
            place += steps[place]
        return tuple(result)
