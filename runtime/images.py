"""Image embeddings: computed when a prompt first needs them, and kept for the next prompts."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

import numpy as np

from .embeddings import EmbeddingBlock

IMAGES_KEPT = 8  # image embeddings of about a megabyte each


class KeptImages:
    """Embeddings of the images used last.

    Args:
        encode: runs the vision stage: (1, 3, H, H) float32 to (N, D).
        count: tokens of an image, N.
        width: hidden size, D.

    Attributes:
        count: as above.
        width: as above.
    """

    def __init__(self, encode: Callable[[np.ndarray], EmbeddingBlock], count: int, width: int):
        self.count, self.width, self._encode = count, width, encode
        self._kept: OrderedDict[str, EmbeddingBlock] = OrderedDict()

    def clear(self) -> None:
        """Forgets all."""
        self._kept.clear()

    def embeds(self, digest: str, pixel_values: np.ndarray) -> tuple[EmbeddingBlock, float]:
        """Returns an image's embeddings (N, D), and the milliseconds they took: 0 when they were kept.

        Args:
            digest: of the pixels.
            pixel_values: (1, 3, H, H) float32.
        """
        milliseconds = 0.0
        if digest not in self._kept:
            begin = time.perf_counter()
            self._kept[digest] = self._encode(pixel_values)
            milliseconds = (time.perf_counter() - begin) * 1e3
        self._kept.move_to_end(digest)
        embeds = self._kept[digest]
        while len(self._kept) > IMAGES_KEPT:  # two after an interruption
            self._kept.popitem(last=False)
        return embeds, milliseconds
