"""Types and ranges of the arguments of public calls; `errors.require` refuses what these say no to."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real

import numpy as np

from mobilevlm.errors import UserError, require
from mobilevlm.images.tiles import is_tiled


def is_number(value: object) -> bool:
    """Whether a value is a finite number that a float can hold."""
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer of hundreds of digits
        return False


def is_integer(value: object) -> bool:
    """Whether a value is an integer; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def texts(name: str, value: object) -> tuple[str, ...]:
    """Returns texts that were given in any iterable with an order.

    Args:
        name: of the argument.
        value: what was given.

    Raises:
        UserError: it is one text, has no order, or something in it is no text.
    """
    usable = isinstance(value, Iterable) and not isinstance(value, str | bytes | bytearray | set | frozenset | dict)
    require(usable, name, value, "a list of texts")
    found = tuple(value) if isinstance(value, Iterable) else ()
    for one in found:
        require(isinstance(one, str), f"one of {name}", one, "text")
    return found


def pixel_values(images: object, count: int, shape: tuple[int, ...], tiled: bool) -> list[np.ndarray]:
    """Returns the images of a conversation, each in one stretch of memory.

    Args:
        images: what was given.
        count: images that the conversation shows.
        shape: of an image, (1, 3, H, H).
        tiled: whether an image may be in tiles, see `images/tiles.py`.

    Raises:
        UserError: they are more or fewer, or not what `Session.read_image` returns.
    """
    require(isinstance(images, list | tuple), "images", images, "a list of what Session.read_image returned")
    given = list(images) if isinstance(images, list | tuple) else []
    if len(given) != count:
        raise UserError(f"the conversation shows {count} images, and {len(given)} are given: give one for each")
    for number, image in enumerate(given, 1):
        is_good = isinstance(image, np.ndarray) and (image.shape == shape or tiled and is_tiled(image, shape))
        if not is_good or image.dtype != np.float32:
            got = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
            raise UserError(f"image {number} is {got}; it must be float32 {shape}, what Session.read_image returns")
        if not np.isfinite(image).all():
            raise UserError(f"image {number} has pixel values that are NaN or infinite: read it again from its file")
    return [np.ascontiguousarray(image) for image in given]
