"""Whether anything has changed since the frame that was last asked about, from a thumbnail of a few hundred cells.

A cell's difference is judged against that cell's own noise, so that a flickering corner does not hide what is quiet
elsewhere, and after a uniform drift of the brightness is taken off. All limits are in values of 0 to 255. Luma alone
would not see a red thing become a green one of the same brightness, so the chroma planes count as cells, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .frames import Frame

# Of a vision tower's patches (24 x 24 of 336 px, 12 x 12 of the demo's) none is much smaller than a cell.
COLUMNS, ROWS = 32, 24


@dataclass(frozen=True)
class GateLimits:
    """Limits of a gate, in values of 0 to 255; docs/watch.md says how they were measured.

    Attributes:
        threshold: a cell that differs by less is never a change.
        noises: a cell has to differ by so many of its own standard deviations.
        ceiling: a cell that differs by more is a change, however noisy it is.
        drift: brightness of the whole frame that is taken off at most; more is a change (a lamp).
        memory: frames over which a cell's noise is averaged.
    """

    threshold: float = 8.0
    noises: float = 6.0
    ceiling: float = 40.0
    drift: float = 10.0
    memory: int = 30


class ChangeGate:
    """Compares frames with the one that was last asked about.

    Args:
        limits: what counts as a change.

    Attributes:
        score: the latest frame's largest difference as a multiple of what its cell allows; a change above 1.
    """

    def __init__(self, limits: GateLimits | None = None):
        self.limits = limits or GateLimits()
        self.score = float("inf")
        self._reference: np.ndarray | None = None
        self._latest: np.ndarray | None = None
        self._variance: np.ndarray | None = None

    def has_changed(self, frame: Frame) -> bool:
        """Looks at the next frame; True for the first one. `ask_about` sets what later ones are compared with."""
        cells = frame.thumbnail(COLUMNS, ROWS).astype(np.float32)
        before, self._latest = self._latest, cells
        if self._reference is None or self._variance is None or before is None:
            self.score, self._variance = float("inf"), np.zeros_like(cells)
            return True
        allowed = self._allowed()
        self.score = float((np.abs(self._without_drift(cells - self._reference)) / allowed).max())
        self._learn_noise(self._without_drift(cells - before), allowed)
        return self.score > 1.0

    def ask_about(self) -> None:
        """Makes the latest frame the one that later ones are compared with."""
        self._reference = self._latest

    def _allowed(self) -> np.ndarray:
        """Differences that are no change, (3, ROWS, COLUMNS)."""
        assert self._variance is not None
        noise = self.limits.noises * np.sqrt(self._variance)
        return np.clip(noise, self.limits.threshold, self.limits.ceiling)

    def _without_drift(self, difference: np.ndarray) -> np.ndarray:
        """Difference (3, ROWS, COLUMNS) less the median of its luma, as far as that is a drift."""
        drift = float(np.median(difference[0]))
        if abs(drift) <= self.limits.drift:
            difference = difference.copy()
            difference[0] -= drift
        return difference

    def _learn_noise(self, step: np.ndarray, allowed: np.ndarray) -> None:
        """Averages the squares of what changed from frame to frame, cut off where it is no noise."""
        assert self._variance is not None
        # Half: the difference of two frames has the noise of both.
        square = np.minimum(np.abs(step), allowed) ** 2 / 2
        self._variance += (square - self._variance) / self.limits.memory
