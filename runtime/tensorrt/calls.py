"""Calls of TensorRT's decoder: their sizes, their inputs, and how rows get into the cache.

The cache is read, in a few lengths; a call's rows leave as one block and are copied into the cache behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd

import numpy as np

from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.engines.stages import CACHE_PARTS, NEW_ROWS, past
from mobilevlm.engines.tensorrt.buckets import PROMPT_ROWS, SPARE_ROWS, call_inputs
from mobilevlm.engines.tensorrt.profiles import Piece

from .cuda import Stream
from .engine import Engine, Shape

ADDRESS_ALIGNMENT = 256


@dataclass(frozen=True)
class Sizes:
    """Of one call.

    Attributes:
        profile: index, in every piece's engine.
        rows: that may mean something.
        columns: cache rows that are looked at.
    """

    profile: int
    rows: int
    columns: int

    @property
    def inputs(self) -> int:
        """Rows that go in."""
        return SPARE_ROWS + self.rows


class Calls:
    """See the module.

    Args:
        config: the model.
        pieces: of the decoder, in order.
        engines: of these.

    Attributes:
        tokens: sizes of the calls for one row.
        largest: sizes of the largest call.
    """

    def __init__(self, config: ModelConfig, pieces: Mapping[str, Piece], engines: Mapping[str, Engine]):
        self._config, self._pieces = config, pieces
        part, piece = next(iter(pieces.items()))
        engine, name = engines[part], past(piece.layers[0], CACHE_PARTS[0])
        self._row_bytes = config.num_key_value_heads * config.head_dim * engine.dtype(name).itemsize
        count = engine.num_profiles // 2
        buckets = [engine.largest(name, profile)[1] for profile in range(count)]
        self._prompts = [Sizes(profile, PROMPT_ROWS, bucket) for profile, bucket in enumerate(buckets)]
        self.tokens = [Sizes(count + profile, 1, bucket) for profile, bucket in enumerate(buckets)]
        self.largest = self._prompts[-1]
        # So that the slices of a cache, one behind the other, all begin where TensorRT takes an address.
        step = ADDRESS_ALIGNMENT // gcd(ADDRESS_ALIGNMENT, self._row_bytes)
        self._capacity = -(-buckets[-1] // step) * step

    def regions(self) -> dict[str, int]:
        """Bytes of each piece's cache and of the block its rows leave in."""
        sizes = {}
        for part, piece in self._pieces.items():
            slices = len(CACHE_PARTS) * len(piece.layers)
            sizes[f"cache.{part}"] = slices * self._capacity * self._row_bytes
            sizes[f"{NEW_ROWS}.{part}"] = slices * PROMPT_ROWS * self._row_bytes
        return sizes

    def sizes(self, rows: int, behind: int) -> Sizes:
        """Of a call with so many rows behind so many of the cache: the smallest that holds these."""
        return next(one for one in (self.tokens if rows == 1 else self._prompts) if one.columns >= behind)

    def place(self, rows: int, sizes: Sizes) -> slice:
        """Where the rows stand in what goes in: at its end, so that the last one is always the last."""
        return slice(sizes.inputs - rows, sizes.inputs)

    def inputs(self, rows: int, behind: int, sizes: Sizes) -> dict[str, np.ndarray]:
        """What goes in besides rows and cache."""
        return call_inputs(self._config, rows, behind, sizes.rows, sizes.columns)

    def caches(self, part: str, sizes: Sizes, regions: Mapping[str, int]) -> tuple[dict[str, Shape], dict[str, int]]:
        """Shapes and addresses of a piece's cache, and of what belongs to it."""
        shape = (1, sizes.columns, self._config.num_key_value_heads, self._config.head_dim)
        names = [past(layer, name) for layer in self._pieces[part].layers for name in CACHE_PARTS]
        start, pitch = regions[f"cache.{part}"], self._capacity * self._row_bytes
        addresses = {name: start + index * pitch for index, name in enumerate(names)}
        return dict.fromkeys(names, shape), addresses | {NEW_ROWS: regions[f"{NEW_ROWS}.{part}"]}

    def keep(self, rows: int, behind: int, sizes: Sizes, regions: Mapping[str, int], stream: Stream) -> None:
        """Copy a call's rows into the cache: one strided copy for a piece."""
        width = self._row_bytes
        for part, piece in self._pieces.items():
            to = regions[f"cache.{part}"] + behind * width
            out_of = regions[f"{NEW_ROWS}.{part}"] + (sizes.rows - rows) * width
            height = len(CACHE_PARTS) * len(piece.layers)
            stream.copy_rows(to, self._capacity * width, out_of, sizes.rows * width, rows * width, height)
