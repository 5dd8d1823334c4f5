"""Calls of TensorRT's decoder: their sizes, their inputs, and how keys and values get into the kv cache.

A graph reads the cache, in one of a few lengths; a call's keys and values leave it as one block, which is copied into
the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import gcd

import numpy as np

from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.engines.stages import CACHE_PARTS, NEW_ROWS, past
from mobilevlm.engines.tensorrt.buckets import PROMPT_ROWS, SPARE_ROWS, call_inputs
from mobilevlm.engines.tensorrt.profiles import DecoderPart

from .cuda import Stream
from .engine import Engine, Shape

ADDRESS_ALIGNMENT = 256


@dataclass(frozen=True)
class Sizes:
    """Sizes of one call.

    Attributes:
        profile: index in every piece's engine.
        rows: most tokens of the call.
        columns: tokens of the kv cache that attention sees.
    """

    profile: int
    rows: int
    columns: int

    @property
    def inputs(self) -> int:
        """Rows of the input tensor: tokens and `SPARE_ROWS`."""
        return SPARE_ROWS + self.rows


class Calls:
    """Sizes, inputs and kv cache of all calls.

    Args:
        config: the model.
        pieces: pieces of the decoder, in order.
        engines: their engines.

    Attributes:
        tokens: sizes of the calls for one token.
        largest: sizes of the largest call.
    """

    def __init__(self, config: ModelConfig, pieces: Mapping[str, DecoderPart], engines: Mapping[str, Engine]):
        self._config, self._pieces = config, pieces
        part, piece = next(iter(pieces.items()))
        engine, name = engines[part], past(piece.layers[0], CACHE_PARTS[0])
        self._dtype = engine.dtype(name)
        self._row_bytes = config.num_key_value_heads * config.head_dim * self._dtype.itemsize
        count = engine.num_profiles // 2
        buckets = [engine.largest(name, profile)[1] for profile in range(count)]
        self._prompts = [Sizes(profile, PROMPT_ROWS, bucket) for profile, bucket in enumerate(buckets)]
        self.tokens = [Sizes(count + profile, 1, bucket) for profile, bucket in enumerate(buckets)]
        self.largest = self._prompts[-1]
        # So that the slices of a cache, one behind the other, all begin where TensorRT takes an address.
        step = ADDRESS_ALIGNMENT // gcd(ADDRESS_ALIGNMENT, self._row_bytes)
        self._capacity = -(-buckets[-1] // step) * step

    def regions(self) -> dict[str, int]:
        """Returns the bytes of each piece's kv cache, and of the block that new keys and values leave in."""
        sizes = {}
        for part, piece in self._pieces.items():
            slices = len(CACHE_PARTS) * len(piece.layers)
            sizes[f"cache.{part}"] = slices * self._capacity * self._row_bytes
            sizes[f"{NEW_ROWS}.{part}"] = slices * PROMPT_ROWS * self._row_bytes
        return sizes

    def cache_slices(self) -> Iterator[tuple[str, int, int, int]]:
        """Yields each piece's region of the kv cache, its number of slices, their bytes, and the bytes of a row."""
        for part, piece in self._pieces.items():
            slices = len(CACHE_PARTS) * len(piece.layers)
            yield f"cache.{part}", slices, self._capacity * self._row_bytes, self._row_bytes

    def empty_rows(self, count: int) -> np.ndarray:
        """Makes an array for rows of the kv cache: (2 * layers, 1, count, kv heads * head_dim)."""
        slices = sum(one[1] for one in self.cache_slices())
        return np.empty((slices, 1, count, self._row_bytes // self._dtype.itemsize), self._dtype)

    def sizes(self, rows: int, behind: int) -> Sizes:
        """Returns the sizes of the smallest call that holds some tokens.

        Args:
            rows: number of tokens.
            behind: tokens of the kv cache that they follow.
        """
        return next(one for one in (self.tokens if rows == 1 else self._prompts) if one.columns >= behind)

    def place(self, rows: int, sizes: Sizes) -> slice:
        """Returns where tokens stand in the input tensor: at its end, so that the last one is always the last row.

        Args:
            rows: number of tokens.
            sizes: of the call.
        """
        return slice(sizes.inputs - rows, sizes.inputs)

    def inputs(self, rows: int, behind: int, sizes: Sizes) -> dict[str, np.ndarray]:
        """Returns the inputs besides embeddings and kv cache.

        Args:
            rows: number of tokens.
            behind: tokens of the kv cache that they follow.
            sizes: of the call.
        """
        return call_inputs(self._config, rows, behind, sizes.rows, sizes.columns)

    def caches(self, part: str, sizes: Sizes, regions: Mapping[str, int]) -> tuple[dict[str, Shape], dict[str, int]]:
        """Returns shapes and addresses of a piece's kv cache, and the address of its new keys and values.

        Args:
            part: name of the piece.
            sizes: of the call.
            regions: addresses on the device, by name.
        """
        shape = (1, sizes.columns, self._config.num_key_value_heads, self._config.head_dim)
        names = [past(layer, name) for layer in self._pieces[part].layers for name in CACHE_PARTS]
        start, pitch = regions[f"cache.{part}"], self._capacity * self._row_bytes
        addresses = {name: start + index * pitch for index, name in enumerate(names)}
        return dict.fromkeys(names, shape), addresses | {NEW_ROWS: regions[f"{NEW_ROWS}.{part}"]}

    def keep(self, rows: int, behind: int, sizes: Sizes, regions: Mapping[str, int], stream: Stream) -> None:
        """Queues the copies of a call's keys and values into the kv cache: a strided one for each piece.

        Args:
            rows: number of tokens.
            behind: tokens of the kv cache that they follow.
            sizes: of the call.
            regions: addresses on the device, by name.
            stream: that the call is queued to.
        """
        new = (regions[f"{NEW_ROWS}.{part}"] for part in self._pieces)
        for out_of, (region, height, pitch, width) in zip(new, self.cache_slices(), strict=True):
            to, out_of = regions[region] + behind * width, out_of + (sizes.rows - rows) * width
            stream.copy_rows(to, pitch, out_of, sizes.rows * width, rows * width, height)
