"""Images given as numpy arrays: 8 bits, 16 bits or floats, gray or colour, channels first or last."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .deep_gray import IntegerRange
from .image_error import ImageError

_PASS = "Pass uint8 of shape (height, width, 3)"
_CHANNELS = {1: "L", 3: "RGB", 4: "RGBA"}


def image_of_array(values: np.ndarray) -> Image.Image:
    """Makes an image of an array.

    Args:
        values: (H, W), (H, W, C) or (C, H, W) with C of 1, 3 or 4, or one of those in a batch of one; uint8 or bool,
            integers of 0..255 or of 16 bits, floats of 0..1 or of 0..255. Any strides and byte order.

    Raises:
        ImageError: another shape or dtype, or values of an unknown range.
    """
    if values.dtype.kind not in "buif":
        raise ImageError(f"The given array is of dtype {values.dtype}, which is no image's. {_PASS}.")
    pixels = _channels_last(values)
    if 0 in pixels.shape:
        raise ImageError(f"The given array has shape {values.shape}, no pixels. {_PASS}, with at least one pixel.")
    flat = np.ascontiguousarray(_to_8_bits(pixels))
    if flat.ndim == 3 and flat.shape[2] == 1:
        flat = flat[:, :, 0]
    return Image.fromarray(flat)


def _channels_last(values: np.ndarray) -> np.ndarray:
    pixels = values[0] if values.ndim == 4 and len(values) == 1 else values
    if pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in _CHANNELS):
        return pixels
    if pixels.ndim == 3 and pixels.shape[0] in _CHANNELS:
        return pixels.transpose(1, 2, 0)
    raise ImageError(
        f"The given array has shape {values.shape}, not (height, width), (height, width, 3) or (3, height, width). "
        f"{_PASS}, several images as a list."
    )


def _to_8_bits(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * 255
    lowest, highest = pixels.min(), pixels.max()
    if pixels.dtype.kind == "f":
        if not (lowest >= 0 and highest <= 255):  # NaN is neither
            raise ImageError(
                f"The given array of {pixels.dtype} holds values of {lowest:g} to {highest:g}, neither 0..1 nor "
                f"0..255. {_PASS}: not normalised, NaN replaced."
            )
        scale = 255 if highest <= 1 else 1
        return np.rint(pixels.astype(np.float32) * np.float32(scale)).astype(np.uint8)
    bits = 16 if pixels.dtype == np.uint16 else None
    full = IntegerRange("The given array", bits).full_scale(int(lowest), int(highest))
    return np.rint(pixels.astype(np.float64) * (255 / full)).astype(np.uint8)
