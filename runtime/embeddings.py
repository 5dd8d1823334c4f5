"""A prompt's rows, each from where it is: text from the host's table, pictures perhaps from a device's memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np


class Block(Protocol):
    """Rows that lie together: an array (n, D), or what can be brought to the host as one."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice) -> Block: ...

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray: ...


class Rows:
    """Blocks, one behind the other. `np.asarray` brings all to the host: (S, D) float32.

    Attributes:
        blocks: none of them empty.
    """

    def __init__(self, blocks: Sequence[Block]):
        self.blocks = [block for block in blocks if len(block)]

    def __len__(self) -> int:
        return sum(map(len, self.blocks))

    def __getitem__(self, rows: slice) -> Rows:
        start, stop, _ = rows.indices(len(self))
        return Rows([block[max(start - at, 0) : max(stop - at, 0)] for at, block in self.placed()])

    def placed(self) -> Iterator[tuple[int, Block]]:
        """Blocks, and how many rows are before each."""
        before = 0
        for block in self.blocks:
            yield before, block
            before += len(block)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.concatenate([np.asarray(block, dtype) for block in self.blocks])
