"""Optimization profiles of an engine: the sizes that its kernels are chosen for.

All dimensions of a profile are fixed: a chunk of a prompt or one token, with each of a few lengths of the cache. One
engine has all profiles and its weights once: matrix products get a padding row (`SPARE_ROWS`), because TensorRT keeps
the weights of one-row products in another layout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mobilevlm.checkpoint.config import ModelConfig

from ..bundle import Bundle
from ..stages import ATTENTION_MASK, CACHE_PARTS, HIDDEN_STATES, INPUTS_EMBEDS, ROPE_COS, ROPE_SIN, VISION, past
from .buckets import PROMPT_ROWS, SPARE_ROWS, past_buckets

Shape = tuple[int, ...]
# Smallest, usual and largest shape of each input.
Profile = dict[str, tuple[Shape, Shape, Shape]]


@dataclass(frozen=True)
class DecoderPart:
    """A graph that holds some of the decoder's layers.

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
        """Name of the input with the tokens' embeddings or hidden states."""
        return INPUTS_EMBEDS if self.first else HIDDEN_STATES


def bundle_profiles(bundle: Bundle, part: str) -> list[Profile]:
    """Returns the optimization profiles of a bundle's graph; none where all its sizes are fixed.

    Args:
        bundle: with the graph.
        part: name of the graph.
    """
    if part == VISION:
        return []
    return decoder_profiles(bundle.config, decoder_parts(bundle.manifest.parts)[part], bundle.manifest.max_context)


def decoder_profiles(config: ModelConfig, part: DecoderPart, max_context: int) -> list[Profile]:
    """Returns the optimization profiles of a decoder's graph, as the runner expects them: prompts, then tokens.

    Args:
        config: the model.
        part: the graph.
        max_context: tokens that the cache holds.
    """
    buckets = past_buckets(max_context)
    return [_fixed(_shapes(config, part, rows, bucket)) for rows in (PROMPT_ROWS, 1) for bucket in buckets]


def _shapes(config: ModelConfig, part: DecoderPart, rows: int, bucket: int) -> dict[str, Shape]:
    shapes = {
        part.rows_name: (1, SPARE_ROWS + rows, config.hidden_size),
        ATTENTION_MASK: (1, 1, rows, bucket + rows),
        ROPE_COS: (1, rows, 1, config.head_dim),
        ROPE_SIN: (1, rows, 1, config.head_dim),
    }
    cache = (1, bucket, config.num_key_value_heads, config.head_dim)
    return shapes | {past(layer, name): cache for layer in part.layers for name in CACHE_PARTS}


def _fixed(shapes: dict[str, Shape]) -> Profile:
    return {name: (shape, shape, shape) for name, shape in shapes.items()}


def decoder_parts(parts: Mapping[str, Sequence[int]]) -> dict[str, DecoderPart]:
    """Returns a decoder's graphs by name, from `Manifest.parts`."""
    names = list(parts)
    return {name: DecoderPart(range(*parts[name]), name == names[0], name == names[-1]) for name in names}
