"""Signal-to-noise ratio of a computed tensor against its reference."""

from __future__ import annotations

from math import isfinite, log10

import numpy as np

EXACT_DB = 200.0  # where nothing differs


def snr_db(got: np.ndarray, reference: np.ndarray) -> float:
    """Computes the power of a reference over that of the difference from it.

    Args:
        got: the computed tensor.
        reference: what it should be, of the same shape.

    Returns:
        Decibels, at most `EXACT_DB`; NaN where something is not finite.
    """
    signal = float(np.square(reference, dtype=np.float64).sum())
    noise = float(np.square(got.astype(np.float64) - reference).sum())
    if not (isfinite(signal) and isfinite(noise)):
        return float("nan")
    if signal == 0:
        return EXACT_DB if noise == 0 else 0.0
    return min(10 * log10(signal / noise), EXACT_DB) if noise > signal * 10 ** (-EXACT_DB / 10) else EXACT_DB
