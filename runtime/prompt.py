"""A prompt as the decoder takes it: tokens, and images that are encoded when one of their tokens is needed."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .embeddings import EmbeddingBlock, Embeddings
from .images import KeptImages
from .pieces import Piece


class PromptImage:
    """An image of a prompt, an `EmbeddingBlock` (N, D) that runs the vision stage when one of its tokens is needed.

    Args:
        kept: encodes it, or has it.
        pixel_values: (1, 3, H, H) float32.

    Attributes:
        digest: sha256 of the pixels.
        encode_ms: milliseconds that the vision stage took; 0 before it is needed, and when it was not.
    """

    def __init__(self, kept: KeptImages, pixel_values: np.ndarray):
        self.digest, self.encode_ms = hashlib.sha256(pixel_values.data).hexdigest(), 0.0
        self._kept, self._pixel_values = kept, pixel_values
        self._embeds: EmbeddingBlock | None = None

    @property
    def keys(self) -> list[Hashable]:
        """Keys of its tokens, see `kv_cache.CachedPrefix`."""
        return image_keys(self.digest, self._kept.count)

    def __len__(self) -> int:
        return self._kept.count

    def __getitem__(self, tokens: slice, /) -> EmbeddingBlock:
        if not range(len(self))[tokens]:
            return np.empty((0, self._kept.width), np.float32)
        return self._encoded()[tokens]

    def __array__(self, dtype: Any = None, /, *, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._encoded(), dtype)

    def _encoded(self) -> EmbeddingBlock:
        if self._embeds is None:
            self._embeds, self.encode_ms = self._kept.embeds(self.digest, self._pixel_values)
        return self._embeds


def image_keys(digest: str, count: int) -> list[Hashable]:
    """Returns the keys of an image's tokens.

    Args:
        digest: of its pixels.
        count: tokens of an image.
    """
    return [(digest, index) for index in range(count)]


@dataclass(frozen=True, eq=False)
class Prompt:
    """A prompt as the decoder takes it; S tokens, each image counted as its N.

    Attributes:
        input_ids: token ids, -200 where an image is.
        inputs_embeds: (S, D), images in their places, which are encoded when the decoder needs them.
        keys: S of them, equal for equal embeddings (see `kv_cache.CachedPrefix`).
        images: in their order.
        pieces: that are run in a call each; none without a prefix cache.
    """

    input_ids: Sequence[int]
    inputs_embeds: Embeddings
    keys: Sequence[Hashable]
    images: Sequence[PromptImage]
    pieces: Sequence[Piece]

    @property
    def image_encode_ms(self) -> float:
        """Milliseconds that the vision stage took so far."""
        return sum(image.encode_ms for image in self.images)
