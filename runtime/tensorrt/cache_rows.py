"""Rows of the kv cache between the GPU and the host, through a block of pinned memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from .calls import Calls
from .cuda import PinnedMemory, Stream

STAGED = 64  # tokens that are copied at a time


class CacheRows:
    """Copies rows of the kv cache, a few at a time.

    Args:
        calls: know where the cache's rows are.
        regions: addresses on the device, by name.
        stream: that everything is queued to.
    """

    def __init__(self, calls: Calls, regions: Mapping[str, int], stream: Stream):
        self._calls, self._regions, self._stream = calls, regions, stream
        self._staging: PinnedMemory | None = None  # taken when rows are copied first: not every session does

    def read(self, start: int, stop: int) -> np.ndarray:
        """Copies rows to the host, see `runner.Runner.read_cache`.

        Args:
            start: index of the first token.
            stop: index behind the last one.

        Returns:
            (2 * layers, 1, stop - start, kv heads * head_dim).
        """
        rows = self._calls.empty_rows(stop - start)
        for first, count in _batches(stop - start):
            staged = self._staged(count)
            for slices, there, pitch in self._places(start + first):
                width = staged[0].nbytes
                self._stream.rows_to_host(staged[slices].ctypes.data, width, there, pitch, width, len(staged[slices]))
            self._stream.synchronize()
            rows[:, 0, first : first + count] = staged
        return rows

    def write(self, start: int, rows: np.ndarray) -> None:
        """Copies rows to the device.

        Args:
            start: index of their first token.
            rows: what `read` returned.
        """
        for first, count in _batches(rows.shape[2]):
            staged = self._staged(count)
            staged[...] = rows[:, 0, first : first + count]
            for slices, there, pitch in self._places(start + first):
                width = staged[0].nbytes
                self._stream.rows_to_device(there, pitch, staged[slices].ctypes.data, width, width, len(staged[slices]))
            self._stream.synchronize()

    def close(self) -> None:
        """Frees the pinned memory; nothing may be using it any more."""
        if self._staging is not None:
            self._staging.close()
        self._staging = None

    def _staged(self, count: int) -> np.ndarray:
        """Returns a view of the pinned memory: (2 * layers, count, kv heads * head_dim)."""
        empty = self._calls.empty_rows(0)
        shape = (empty.shape[0], count, empty.shape[3])
        if self._staging is None:
            self._staging = PinnedMemory(shape[0] * STAGED * shape[2] * empty.itemsize)
        return self._staging.array(0, shape, empty.dtype)

    def _places(self, token: int) -> Iterator[tuple[slice, int, int]]:
        """Yields which slices a piece of the decoder has, a token's address in the first, and the pitch of slices."""
        first = 0
        for region, slices, pitch, width in self._calls.cache_slices():
            yield slice(first, first + slices), self._regions[region] + token * width, pitch
            first += slices


def _batches(count: int) -> Iterator[tuple[int, int]]:
    for first in range(0, count, STAGED):
        yield first, min(STAGED, count - first)
