"""Contract of what runs the stages that a build has written, to verify them; each backend has its own."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Protocol

import numpy as np

HALF_MAX = float(np.finfo(np.float16).max)
# Part of float16's range: other images and questions go further than the ones that were tried.
HEADROOM = 4.0


@dataclass(frozen=True)
class Peak:
    """Largest float16 value of a graph on the sample, and the node that makes it."""

    graph: str
    node: str
    largest: float

    @property
    def fits(self) -> bool:
        """Whether float16 has it, with `HEADROOM` for what was not tried."""
        return isfinite(self.largest) and self.largest * HEADROOM <= HALF_MAX


class Stages(Protocol):
    """The written stages of one bundle."""

    def encode_image(self, pixel_values: np.ndarray) -> np.ndarray:
        """Encodes an image, (1, 3, H, H) float32, to image_embeds (1, N, D)."""

    def prefill(self, rows: np.ndarray) -> np.ndarray | None:
        """Runs tokens, (S, D) float32, through a separate prefill into the kv cache.

        Returns:
            Logits of the last token, (1, V) float32; None without such a prefill.
        """

    def decode(self, rows: np.ndarray, past: int) -> np.ndarray:
        """Runs tokens through the decoder.

        Args:
            rows: their embeddings, (S, D) float32.
            past: tokens that are in the kv cache before them.

        Returns:
            Logits of the last token, (1, V) float32.
        """

    def caches(self, rows: int) -> dict[tuple[int, str], np.ndarray]:
        """Returns the first rows of the kv cache by layer and part, (1, kv heads, rows, head_dim) float32."""

    def unrounded(self, pixel_values: np.ndarray | None, rows: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
        """Runs what rounds in operators of its own without that rounding (`unrounded.py`).

        Args:
            pixel_values: (1, 3, H, H), None for a text-only model.
            rows: (S, D), of the prefill.

        Returns:
            Outputs by stage and name.
        """

    def peaks(self) -> list[Peak]:
        """Returns how large float16 values got in what has run, one peak a graph; none where arithmetic is float32."""
