"""Gray of more than 8 bits, scaled to 8 by its bit depth, or by the range of its values where no depth is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .image_error import ImageError

_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_MAX_SAMPLE_VALUES = (281, 341)  # MaxSampleValue, SMaxSampleValue
_WHITE_IS_ZERO, _SIGNED = 0, 2
_STRIP_PIXELS = 1 << 19


@dataclass(frozen=True)
class IntegerRange:
    """Range of integer pixels.

    Attributes:
        name: of the image, for the error.
        bits: of a sample; None where it has more than its values may use.
        signed: whether the samples have a sign, of which an image uses one half.
        stated: largest value as the file states it.
    """

    name: str
    bits: int | None = None
    signed: bool = False
    stated: int | None = None

    def full_scale(self, lowest: int, highest: int) -> int:
        """Returns the value of white.

        Args:
            lowest: smallest value.
            highest: largest value.

        Raises:
            ImageError: values below 0, or of a range that cannot be known.
        """
        if self.bits is not None and not self.signed:
            return 2**self.bits - 1
        if lowest < 0:
            raise self._unknown(lowest, highest)
        if self.stated is not None and highest <= self.stated:
            return self.stated
        for bits in (8, 16 if self.bits is None else self.bits - 1):
            if highest < 2**bits:
                return 2**bits - 1
        full = 2**31 - 1 if self.signed or highest < 2**31 else 2**32 - 1
        if highest < full // 4:  # 20 or 24 bits, or a count: as 32 bits it would be nearly black
            raise self._unknown(lowest, highest)
        return full

    def _unknown(self, lowest: int, highest: int) -> ImageError:
        return ImageError(
            f"{self.name} holds integers of {lowest} to {highest}, and which of them is white cannot be known. "
            "Scale them to 0..255 and save it as 8-bit PNG."
        )


def deep_gray_to_8_bits(image: Image.Image, name: str) -> Callable[[Image.Image], Image.Image]:
    """Returns what converts strips of a decoded image of mode F, I or I;16 to mode L.

    Args:
        image: whole, for its range.
        name: of the image, for the error.

    Raises:
        ImageError: its range cannot be known.
    """
    if image.mode == "F":
        extremes = [(strip.min(), strip.max()) for strip in map(_floats, _strips(image))]
        is_unit = min(low for low, _ in extremes) >= 0 and max(high for _, high in extremes) <= 1
        return lambda strip: _as_gray(_floats(strip) * np.float32(255 if is_unit else 1))
    tags = getattr(image, "tag_v2", {})
    if image.mode == "I":
        is_unsigned = tags.get(_SAMPLE_FORMAT, (1 if tags else _SIGNED,))[0] != _SIGNED
        read_as = np.uint32 if is_unsigned else np.int32  # Pillow keeps the bits of an unsigned file
        extremes = [(strip.min(), strip.max()) for strip in (_integers(strip, read_as) for strip in _strips(image))]
        lowest, highest = int(min(low for low, _ in extremes)), int(max(high for _, high in extremes))
        full = _range_of(image, tags, name).full_scale(lowest, highest)
        return lambda strip: _as_gray(_integers(strip, read_as).astype(np.float64) * (255 / full))
    full = 4095 if tags.get(_BITS_PER_SAMPLE) == (12,) else 65535
    transparent, inverts = image.info.get("transparency"), tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO

    def convert(strip: Image.Image) -> Image.Image:
        values = np.asarray(strip).astype(np.float32)
        if transparent is not None:
            values[values == transparent] = full
        return _as_gray((full - values if inverts else values) / np.float32(full / 255))

    return convert


def _range_of(image: Image.Image, tags: dict[int, tuple[int, ...]], name: str) -> IntegerRange:
    if image.format == "PPM":  # Pillow scales it to 16 bits by the file's own maximum
        return IntegerRange(name, bits=16)
    stated = next((value for tag in _MAX_SAMPLE_VALUES if (value := _number(tags.get(tag))) is not None), None)
    is_signed = tags.get(_SAMPLE_FORMAT, (1,))[0] == _SIGNED
    bits = 16 if is_signed and tags.get(_BITS_PER_SAMPLE) == (16,) else None
    return IntegerRange(name, bits, is_signed, stated if stated and stated >= 255 else None)


def _number(value: object) -> int | None:
    first = value[0] if isinstance(value, tuple) and value else value
    return int(first) if isinstance(first, (int, float)) and 0 < first < 2**32 else None


def _strips(image: Image.Image) -> Iterator[Image.Image]:
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height)))


def _floats(strip: Image.Image) -> np.ndarray:
    return np.nan_to_num(np.asarray(strip).astype(np.float32))


def _integers(strip: Image.Image, dtype: type[np.generic]) -> np.ndarray:
    return np.asarray(strip).view(dtype)


def _as_gray(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))
