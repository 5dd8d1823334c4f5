"""Rotary position embeddings (RoPE): cosines and sines of the angles by which queries and keys are rotated.

The angle of pair i at position p is p * theta ** (-i / (head_dim / 2)), https://arxiv.org/abs/2104.09864; pairs are the
first and second half of a head, as in LLaMA.
"""

from __future__ import annotations

import numpy as np

from mobilevlm.checkpoint.config import ModelConfig


def half_tables(config: ModelConfig, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Computes cosines and sines, one for each pair.

    Args:
        config: the model, for head_dim and theta.
        positions: (S,) of the tokens, from 0.

    Returns:
        Cosines and sines, (S, head_dim / 2) float32.
    """
    half = config.head_dim // 2
    frequencies = 1.0 / config.rope_theta ** (np.arange(half) / half)
    angles = np.outer(positions, frequencies)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def full_tables(config: ModelConfig, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Computes the tables of graphs that rotate by `x * cos + swap_halves(x) * sin`.

    Args:
        config: the model, for head_dim and theta.
        positions: (S,) of the tokens, from 0.

    Returns:
        Cosines and sines, (S, head_dim) float32; the first half of the sines is negated.
    """
    cos, sin = half_tables(config, positions)
    return np.concatenate([cos, cos], 1), np.concatenate([-sin, sin], 1)
