"""HEIC and HEIF, as phones write them, by the optional package pillow-heif."""

from __future__ import annotations

from typing import BinaryIO

from PIL import Image

from .image_error import ImageError


def open_heif(file: BinaryIO, name: str) -> Image.Image:
    """Opens an image; nothing is decoded yet.

    Args:
        file: its bytes.
        name: of the image.

    Raises:
        ImageError: pillow-heif is not installed.
    """
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise ImageError(
            f"{name} is a HEIC or HEIF image, which needs the package pillow-heif. Install it with "
            "pip install 'mobilevlm[heif]', or convert the image to JPEG."
        ) from None
    image: Image.Image = HeifImageFile(file)
    return image
