"""Embeddings of a prompt's tokens, each where it lies: text on the host, images perhaps in a device's memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np


class EmbeddingBlock(Protocol):
    """Embeddings of consecutive tokens: an array (n, D) float32, or what `np.asarray` copies to the host as one."""

    def __len__(self) -> int: ...

    def __getitem__(self, tokens: slice, /) -> EmbeddingBlock: ...

    def __array__(self, dtype: Any = None, /, *, copy: bool | None = None) -> np.ndarray: ...


class Embeddings:
    """Blocks, one behind the other; itself a block. `np.asarray` copies all to the host: (S, D) float32.

    Attributes:
        blocks: none of them empty.
    """

    def __init__(self, blocks: Sequence[EmbeddingBlock]):
        self.blocks = [block for block in blocks if len(block)]

    def __len__(self) -> int:
        return sum(map(len, self.blocks))

    def __getitem__(self, tokens: slice, /) -> Embeddings:
        start, stop, _ = tokens.indices(len(self))
        return Embeddings([block[max(start - at, 0) : max(stop - at, 0)] for at, block in self.placed()])

    def placed(self) -> Iterator[tuple[int, EmbeddingBlock]]:
        """Yields the blocks, each with the number of tokens before it."""
        before = 0
        for block in self.blocks:
            yield before, block
            before += len(block)

    def __array__(self, dtype: Any = None, /, *, copy: bool | None = None) -> np.ndarray:
        return np.concatenate([np.asarray(block, dtype) for block in self.blocks])
