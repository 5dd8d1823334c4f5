"""Optimisation profiles of an engine: which sizes its kernels are chosen for.

All dimensions of a profile are fixed: a piece of a prompt or one token, behind each of a few lengths of the cache. One
engine has them all, and its weights once: products see a spare row besides (`SPARE_ROWS`), because TensorRT keeps
weights that one row alone is multiplied by in another layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mobilevlm.checkpoint.config import ModelConfig

from ..bundle import Bundle
from ..stages import ATTENTION_MASK, CACHE_PARTS, HIDDEN_STATES, INPUTS_EMBEDS, ROPE_COS, ROPE_SIN, VISION, past
from .buckets import PROMPT_ROWS, SPARE_ROWS, past_buckets

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


def bundle_profiles(bundle: Bundle, part: str) -> list[Profile]:
    """Those of a bundle's graph; none where all its sizes are fixed."""
    if part == VISION:
        return []
    return decoder_profiles(bundle.config, decoder_pieces(bundle.manifest.parts)[part], bundle.manifest.max_context)


def decoder_profiles(config: ModelConfig, piece: Piece, max_context: int) -> list[Profile]:
    """Those of a piece of the decoder, in the order that the runner expects: prompts, then tokens.

    Args:
        config: the model.
        piece: of its decoder.
        max_context: rows of the cache.
    """
    buckets = past_buckets(max_context)
    return [_fixed(_shapes(config, piece, rows, bucket)) for rows in (PROMPT_ROWS, 1) for bucket in buckets]


def _shapes(config: ModelConfig, piece: Piece, rows: int, behind: int) -> dict[str, Shape]:
    shapes = {
        piece.rows_name: (1, SPARE_ROWS + rows, config.hidden_size),
        ATTENTION_MASK: (1, 1, rows, behind + rows),
        ROPE_COS: (1, rows, 1, config.head_dim),
        ROPE_SIN: (1, rows, 1, config.head_dim),
    }
    cache = (1, behind, config.num_key_value_heads, config.head_dim)
    return shapes | {past(layer, part): cache for layer in piece.layers for part in CACHE_PARTS}


def _fixed(shapes: dict[str, Shape]) -> Profile:
    return {name: (shape, shape, shape) for name, shape in shapes.items()}


def decoder_pieces(parts: dict[str, Sequence[int]]) -> dict[str, Piece]:
    """By name, from `Manifest.parts`."""
    names = list(parts)
    return {name: Piece(range(*parts[name]), name == names[0], name == names[-1]) for name in names}
