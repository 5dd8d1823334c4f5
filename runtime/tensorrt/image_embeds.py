"""Image embeddings that stay on the GPU, from the vision stage to the prompts they are in."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

# As many as a session remembers, and those of a prompt that it is putting together.
PLACES = 10


class Place:
    """Memory of one image's embeddings, for as long as anything refers to a part of them.

    Attributes:
        address: on the device.
    """

    def __init__(self, address: int):
        self.address = address


class DeviceEmbeddings:
    """Some of an image's embeddings, (n, D). `np.asarray` copies them to the host, as float32.

    Args:
        images: whose memory it is.
        place: of the image.
        tokens: which of the image's tokens.
    """

    def __init__(self, images: DeviceImages, place: Place, tokens: range):
        self._images, self._place, self._tokens = images, place, tokens

    @property
    def address(self) -> int:
        """Address of the first one on the device."""
        return self._place.address + self._tokens.start * self._images.row_bytes

    def __len__(self) -> int:
        return len(self._tokens)

    def __getitem__(self, tokens: slice, /) -> DeviceEmbeddings:
        return DeviceEmbeddings(self._images, self._place, self._tokens[tokens])

    def __array__(self, dtype: Any = None, /, *, copy: bool | None = None) -> np.ndarray:
        return self._images.fetch(self.address, len(self)).astype(dtype or np.float32)


class DeviceImages:
    """Device memory for the embeddings of `PLACES` images.

    Args:
        address: on the device, of `PLACES` times the bytes of one image.
        count: tokens of an image, N.
        row_bytes: bytes of one of its tokens.
        fetch: copies so many tokens from an address to the host: (n, D).

    Attributes:
        row_bytes: as above.
        fetch: as above.
    """

    def __init__(self, address: int, count: int, row_bytes: int, fetch: Callable[[int, int], np.ndarray]):
        self.row_bytes, self.fetch, self._count = row_bytes, fetch, count
        self._free = [address + place * count * row_bytes for place in range(PLACES)]

    def take(self) -> DeviceEmbeddings | None:
        """Returns an image's embeddings for the caller to write; None while all places are in use."""
        if not self._free:
            return None
        place = Place(self._free.pop())
        # What was queued to read it is done before what is queued to write it next: there is one stream.
        weakref.finalize(place, self._free.append, place.address)
        return DeviceEmbeddings(self, place, range(self._count))
