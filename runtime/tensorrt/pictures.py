"""Image embeddings that stay on the GPU, from the vision stage to the prompts they are in."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

# As many as a session remembers, and those of a prompt that it is putting together.
PLACES = 10


class Place:
    """A picture's memory, as long as anybody has rows of it."""

    def __init__(self, address: int):
        self.address = address


class DeviceRows:
    """Some of a picture's rows. `np.asarray` copies them to the host, as float32.

    Args:
        pictures: whose they are.
        place: of the picture.
        rows: which.
    """

    def __init__(self, pictures: Pictures, place: Place, rows: range):
        self._pictures, self._place, self._rows = pictures, place, rows

    @property
    def address(self) -> int:
        """Of the first."""
        return self._place.address + self._rows.start * self._pictures.row_bytes

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: slice, /) -> DeviceRows:
        return DeviceRows(self._pictures, self._place, self._rows[rows])

    def __array__(self, dtype: Any = None, /, *, copy: bool | None = None) -> np.ndarray:
        return self._pictures.fetch(self.address, len(self)).astype(dtype or np.float32)


class Pictures:
    """Room for a few.

    Args:
        address: of `PLACES` times the bytes of one.
        shape: (N, D) of one.
        row_bytes: of one of its N rows.
        fetch: copies so many rows from an address to the host.
    """

    def __init__(self, address: int, shape: tuple[int, int], row_bytes: int, fetch: Callable[[int, int], np.ndarray]):
        self.row_bytes, self.fetch = row_bytes, fetch
        self._count = shape[0]
        self._free = [address + place * shape[0] * row_bytes for place in range(PLACES)]

    def take(self) -> DeviceRows | None:
        """A picture's rows, for the caller to write; None while all places are in use."""
        if not self._free:
            return None
        place = Place(self._free.pop())
        # What was queued to read it is done before what is queued to write it next: there is one stream.
        weakref.finalize(place, self._free.append, place.address)
        return DeviceRows(self, place, range(self._count))
