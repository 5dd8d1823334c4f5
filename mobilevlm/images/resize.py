"""Resizes in two passes, each strip by strip, so that no image in between has to exist whole."""

from __future__ import annotations

from PIL import Image

_STRIP_PIXELS = 1 << 23  # 32 MiB: what one strip of a resize pass may hold


def resized(image: Image.Image, size: tuple[int, int], resample: int) -> Image.Image:
    """Resize a whole image: the width first, then the height.

    Args:
        image: mode RGB.
        size: width and height.
        resample: filter, as Pillow numbers them.
    """
    for side, edge in zip(image.size, size, strict=True):
        image = resize_width(image, side, edge, edge, resample)
        image = image.transpose(Image.Transpose.TRANSPOSE)
    return image


def resize_width(
    image: Image.Image, padded: int, resized: int, kept: int, resample: int, fill: tuple[int, ...] = (0, 0, 0)
) -> Image.Image:
    """One pass of a resize: pad rows to `padded` with `fill`, resize to `resized`, keep the middle `kept` pixels.

    Goes strip by strip, so neither the padded nor the resized image, over 0.9 GB for 20,000 x 10, exists whole. Rows
    do not mix in this pass and one flat colour stays itself, so the result is that of the whole image.

    Args:
        image: mode RGB.
        padded: pixels of a row.
        resized: pixels of a row afterwards.
        kept: pixels of a row that are kept.
        resample: filter, as Pillow numbers them.
        fill: colour of the padding.
    """
    left = (resized - kept) // 2
    rows = max(1, _STRIP_PIXELS // max(padded, resized))
    result = Image.new("RGB", (kept, image.height))
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        strip = Image.new("RGB", (padded, bottom - top), fill)
        strip.paste(image.crop((0, top, image.width, bottom)), ((padded - image.width) // 2, 0))
        strip = strip.resize((resized, bottom - top), Image.Resampling(resample))
        result.paste(strip.crop((left, 0, left + kept, bottom - top)), (0, top))
    return result
