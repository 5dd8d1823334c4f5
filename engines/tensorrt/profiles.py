"""Optimisation profiles of an engine: which sizes its kernels are chosen for.

All dimensions of a profile of the `delta` lowering are fixed: a chunk of a prompt or one token, behind each of a few
lengths of the cache. One engine has them all, and its weights once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mobilevlm.config import ModelConfig

from ..stages import (
    ATTENTION_MASK,
    CACHE_PARTS,
    HIDDEN_STATES,
    INPUTS_EMBEDS,
    LAST_ROW,
    ROPE_COS,
    ROPE_SIN,
    WRITE_INDICES,
    past,
)
from .buckets import PROMPT_ROWS, past_buckets

DELTA, FUSED = "delta", "fused"
Shape = tuple[int, ...]
# By input, its smallest, its usual and its largest shape.
Profile = dict[str, tuple[Shape, Shape, Shape]]


@dataclass(frozen=True)
class Piece:
    """A graph of the decoder.

    Attributes:
        layers: of the decoder in it.
        first: whether it begins the decoder.
        last: whether it ends it.
    """

    layers: range
    first: bool
    last: bool

    @property
    def rows_name(self) -> str:
        """Of the input with the rows."""
        return INPUTS_EMBEDS if self.first else HIDDEN_STATES


def decoder_profiles(config: ModelConfig, piece: Piece, lowering: str, max_context: int) -> list[Profile]:
    """Those of a piece of the decoder, in the order that the runner expects.

    Args:
        config: the model.
        piece: of its decoder.
        lowering: `delta` or `fused`.
        max_context: rows of the cache.
    """
    if lowering == FUSED:
        every = range(1, PROMPT_ROWS + 1)
        prompt = _joined(*(_fused(config, piece, rows, max_context) for rows in (1, every[-1], every[-1])))
        return [prompt, _fixed(_fused(config, piece, 1, max_context))]
    buckets = past_buckets(max_context)
    return [_fixed(_delta(config, piece, rows, bucket)) for rows in (PROMPT_ROWS, 1) for bucket in buckets]


def _delta(config: ModelConfig, piece: Piece, rows: int, behind: int) -> dict[str, Shape]:
    shapes = {
        piece.rows_name: (1, rows, config.hidden_size),
        ATTENTION_MASK: (1, 1, rows, behind + rows),
        ROPE_COS: (1, rows, 1, config.head_dim),
        ROPE_SIN: (1, rows, 1, config.head_dim),
    }
    cache = (1, behind, config.num_key_value_heads, config.head_dim)
    return shapes | {past(layer, part): cache for layer in piece.layers for part in CACHE_PARTS}


def _fused(config: ModelConfig, piece: Piece, rows: int, capacity: int) -> dict[str, Shape]:
    table = (1, rows, config.head_dim // 2)
    shapes = {
        piece.rows_name: (1, rows, config.hidden_size),
        ATTENTION_MASK: (1, 1, rows, capacity),
        ROPE_COS: table,
        ROPE_SIN: table,
        WRITE_INDICES: (1,),
    }
    if piece.last:
        shapes[LAST_ROW] = (1,)
    cache = (1, config.num_key_value_heads, capacity, config.head_dim)
    return shapes | {past(layer, part): cache for layer in piece.layers for part in CACHE_PARTS}


def _fixed(shapes: dict[str, Shape]) -> Profile:
    return _joined(shapes, shapes, shapes)


def _joined(low: dict[str, Shape], usual: dict[str, Shape], high: dict[str, Shape]) -> Profile:
    return {name: (low[name], usual[name], high[name]) for name in low}


def decoder_pieces(parts: dict[str, Sequence[int]]) -> dict[str, Piece]:
    """By name, from `Manifest.parts`."""
    names = list(parts)
    return {name: Piece(range(*parts[name]), name == names[0], name == names[-1]) for name in names}
