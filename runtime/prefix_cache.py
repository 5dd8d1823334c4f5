"""Kept prefixes: keys and values of prompts' pieces in host memory, so that several conversations share a beginning.

Pieces form a tree: a piece is stored under a name that says all that precedes it, so what two prompts share is stored
once. The piece that was used longest ago goes first, and never before those that need it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import takewhile

import numpy as np

from .pieces import Piece
from .runner import Runner

# 650 tokens of the 1.7B model in float32, 2600 in int8.
PREFIX_CACHE_BYTES = 256 * 2**20


class PrefixCache:
    """Pieces that are kept, and those that the runner's kv cache begins with.

    Args:
        most_bytes: most memory that the kept pieces take.

    Attributes:
        most_bytes: as above.
    """

    def __init__(self, most_bytes: int):
        self.most_bytes = most_bytes
        self._kept: OrderedDict[str, np.ndarray] = OrderedDict()  # the one used longest ago first
        self._held: list[Piece] = []

    @property
    def size(self) -> int:
        """Bytes that the kept pieces take."""
        return sum(rows.nbytes for rows in self._kept.values())

    def clear(self) -> None:
        """Forgets all pieces."""
        self._kept.clear()
        self._held = []

    def forget_held(self) -> None:
        """Notes that something else is written into the runner's kv cache."""
        self._held = []

    def restore(self, pieces: Sequence[Piece], runner: Runner) -> int:
        """Makes the runner's kv cache begin with the pieces of a prompt, as far as they are kept.

        Args:
            pieces: from the prompt's first.
            runner: whose kv cache it is.

        Returns:
            Number of tokens that need not be run.
        """
        pairs = zip(pieces, self._held, strict=False)
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        del self._held[shared:]  # before they are overwritten: an interruption leaves no wrong piece
        for piece in pieces[shared:]:
            rows = self._kept.get(piece.name)
            if rows is None:
                break
            runner.write_cache(piece.start, rows)
            self._held.append(piece)
        self._touch(self._held)
        return self._held[-1].stop if self._held else 0

    def ran(self, piece: Piece, runner: Runner) -> None:
        """Keeps a piece that has been run behind those that the runner's kv cache begins with.

        Args:
            piece: the next one.
            runner: whose kv cache holds it.
        """
        self._held.append(piece)
        for number, one in enumerate(self._held):
            if one.name not in self._kept:
                self._keep(self._held[:number], one, runner.read_cache(one.start, one.stop))

    def rows(self, pieces: Sequence[Piece]) -> list[np.ndarray]:
        """Returns the rows of a prompt's pieces, as `Runner.read_cache` does, up to the first that is not kept."""
        return [self._kept[piece.name] for piece in takewhile(lambda piece: piece.name in self._kept, pieces)]

    def add(self, pieces: Sequence[Piece], rows: Sequence[np.ndarray]) -> None:
        """Keeps pieces that were computed before.

        Args:
            pieces: from the prompt's first.
            rows: of each, as `Runner.read_cache` returned them.
        """
        for number, (piece, one) in enumerate(zip(pieces, rows, strict=True)):
            self._keep(pieces[:number], piece, one)

    def _keep(self, before: Sequence[Piece], piece: Piece, rows: np.ndarray) -> None:
        """Keeps a piece if it fits beside those before it, without which it is of no use."""
        known = [self._kept.get(one.name) for one in before]
        present = [one for one in known if one is not None]
        if len(present) < len(known) or sum(one.nbytes for one in present) + rows.nbytes > self.most_bytes:
            return
        self._touch(before)
        while self.size + rows.nbytes > self.most_bytes:
            self._kept.popitem(last=False)
        self._kept[piece.name] = rows
        self._touch([*before, piece])

    def _touch(self, pieces: Sequence[Piece]) -> None:
        """Notes a use of pieces from the first on: a piece stays younger than those behind it."""
        for piece in reversed(pieces):
            if piece.name in self._kept:
                self._kept.move_to_end(piece.name)
