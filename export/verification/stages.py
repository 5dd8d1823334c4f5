"""The contract of what runs the stages that a build has written, to verify them: each backend has its own."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Protocol

import numpy as np

HALF_MAX = float(np.finfo(np.float16).max)
# Of float16's range: other pictures and questions go further than the ones that were tried.
HEADROOM = 4.0


@dataclass(frozen=True)
class Peak:
    """How large a float16 value of a graph got, and the node that makes it."""

    graph: str
    node: str
    largest: float

    @property
    def fits(self) -> bool:
        """Whether float16 has it, with room for what was not tried."""
        return isfinite(self.largest) and self.largest * HEADROOM <= HALF_MAX


class Stages(Protocol):
    """The written stages of one bundle."""

    def encode_image(self, pixel_values: np.ndarray) -> np.ndarray:
        """(1, 3, H, H) to image_embeds (1, N, D)."""

    def prefill(self, rows: np.ndarray) -> np.ndarray | None:
        """Run (S, D) rows through a separate prefill into the kv cache: (1, V) logits of the last; None without one."""

    def decode(self, rows: np.ndarray, past: int) -> np.ndarray:
        """Run (S, D) rows behind the first `past` of the kv cache: (1, V) logits of the last."""

    def caches(self, rows: int) -> dict[tuple[int, str], np.ndarray]:
        """The first rows of the kv cache by layer and part, (1, kv heads, rows, head_dim), of the written weights."""

    def unrounded(self, pixel_values: np.ndarray | None, rows: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
        """Outputs by stage and name of what rounds in operators of its own, without that (`unrounded.py`).

        Args:
            pixel_values: (1, 3, H, H), None for a text-only model.
            rows: (S, D), of the prefill.
        """

    def peaks(self) -> list[Peak]:
        """How large float16 values got in what has run, a graph each; none where arithmetic is float32."""
