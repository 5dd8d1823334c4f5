"""Pixels of a sensor_msgs/Image message."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from mobilevlm.errors import UserError

# Encoding to bytes a pixel, and where red, green and blue are among a pixel's values.
_BYTES = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "8UC3": 3, "mono8": 1, "8UC1": 1, "mono16": 2}
_RGB = {"rgb8": (0, 1, 2), "bgr8": (2, 1, 0), "rgba8": (0, 1, 2), "bgra8": (2, 1, 0), "8UC3": (2, 1, 0)}


class ImageMessage(Protocol):
    """The fields of sensor_msgs/Image that are read here.

    Attributes:
        height: rows.
        width: pixels in a row.
        encoding: channels, their order and their size.
        is_bigendian: whether values of 16 bits begin with the high byte.
        step: bytes from one row to the next, at least those of its pixels.
        data: `step` * `height` bytes.
    """

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: bytes


def pixels_of(message: ImageMessage) -> np.ndarray:
    """Returns a message's pixels, (H, W, 3) uint8, RGB; of 16-bit gray the high byte.

    Raises:
        UserError: an encoding that is not known here, or less data than the sizes say.
    """
    encoding, height, width, step = message.encoding, message.height, message.width, message.step
    if encoding not in _BYTES:
        raise UserError(f"images with encoding {encoding or '(none)'} are not read; these are: {', '.join(_BYTES)}")
    row = width * _BYTES[encoding]
    data = np.frombuffer(message.data, np.uint8)
    if not height or not width or step < row or data.size < step * height:
        raise UserError(f"an image of {width} x {height} in {encoding} with step {step} cannot have {data.size} bytes")
    pixels = data[: step * height].reshape(height, step)[:, :row].reshape(height, width, -1)
    if encoding in _RGB:
        return np.ascontiguousarray(pixels[:, :, list(_RGB[encoding])])
    high_byte = 0 if encoding != "mono16" or message.is_bigendian else 1
    return np.repeat(pixels[:, :, high_byte : high_byte + 1], 3, axis=2)
