"""Loads one image: from a file, bytes, an array or an opened image to mode RGB, in bounded time and memory."""

from __future__ import annotations

import struct
import warnings
import zlib
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from .arrays import image_of_array
from .color import to_rgb
from .contents import HEAD_BYTES, is_heif, what_it_is
from .costs import READ_FORMATS, check_cost, check_icon, check_pixels, draft_scale, readers, reduction
from .heif import open_heif
from .image_error import ImageError
from .metered_file import MeteredFile
from .sources import ImageSource, name_of, opened_file

# Pillow's readers raise any of these on a damaged file; a user needs one kind of error.
_PILLOW_ERRORS = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, EOFError),
    *(AssertionError, BufferError, RuntimeError, ImportError, MemoryError, struct.error, zlib.error),
)
_LARGEST_EXIF = 1 << 20  # a JPEG's has 64 KiB, with a thumbnail
_MOST_EXIF_BLOCKS = 32  # Pillow puts all of a file together; previews and motion photos bring a few of their own
_TO_UPRIGHT = {  # by EXIF orientation; 1 is upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_image(source: ImageSource, *, max_pixels: int | None = None) -> Image.Image:
    """Read an image as a viewer shows it: first frame, upright, transparency on white, sRGB.

    16-bit gray is scaled to 8 bit, 32-bit integers by the range of their values. Float gray is taken as 0..1 if all of
    it lies there, else as 0..255, clipped. Profiles and Lab are converted to sRGB. What decoding costs is estimated
    from the header first: images that take more than some 2 s or 400 MB are read smaller or refused.

    Args:
        source: a file, the bytes of a file, an open file, an opened image, of which the current frame counts, or an
            array (H, W), (H, W, C) or (C, H, W) of uint8, 16-bit integers, or floats of 0..1 or 0..255.
        max_pixels: most pixels of an image, whatever its decoding costs; None for the limits above.

    Returns:
        A decoded image of mode RGB; `source` itself where nothing had to change.

    Raises:
        ImageError: missing, empty, damaged, not an image, or too large (found before decoding).
    """
    name = name_of(source)
    if max_pixels is not None and max_pixels < 1:
        raise ImageError(f"max_pixels is {max_pixels}. Give at least 1, or None for the usual limits.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of large images and odd metadata: both are handled here
        try:
            if isinstance(source, Image.Image):
                return _decode(_of_a_read_format(source, name), name, max_pixels)
            if isinstance(source, np.ndarray) or hasattr(source, "__array_interface__"):
                return _decode(image_of_array(np.asarray(source)), name, max_pixels)
            with opened_file(source, name) as (file, size):
                return _read(file, size, name, max_pixels)
        except ImageError:
            raise
        except Image.DecompressionBombError as error:
            problem = str(error).split(",")[0]  # "Image size (N pixels) exceeds limit of M pixels"
            raise ImageError(f"{name} is too large: {problem}. Shrink it first.") from error
        except _PILLOW_ERRORS as error:
            problem = " ".join(str(error).split()) or "it is damaged"
            raise ImageError(f"{name} cannot be read: {problem}. Copy it again or save it anew as PNG.") from error


def _read(file: BinaryIO, size: int, name: str, max_pixels: int | None) -> Image.Image:
    """Reads a file's image, or says what the file is."""
    head = file.read(HEAD_BYTES)
    file.seek(0)
    is_jpeg, is_icon = head[:2] == b"\xff\xd8", head[:4] == b"\0\0\1\0"
    data = file.read() if is_jpeg or is_icon else b""
    file.seek(0)
    if is_icon:
        check_icon(data, name)
    if data.count(b"Exif\0\0") > _MOST_EXIF_BLOCKS:
        raise ImageError(f"{name} is damaged: its EXIF data is far too long. Save it anew without metadata.")
    with _opened(MeteredFile(file, size, name), head, name) as image:
        check_pixels(image, name, max_pixels)
        is_draft = image.format in ("JPEG", "MPO")
        held = check_cost(image, name, data if is_draft else None, size) if max_pixels is None else 0.0
        del data
        if len(image.info.get("exif") or b"") > _LARGEST_EXIF:
            del image.info["exif"]
        if is_draft and (scale := draft_scale(image, _turn_of(image) is not None, held)) > 1:
            image.draft(None, (image.width // scale, image.height // scale))
        return _decode(image, name, max_pixels, is_ours=True)


def _opened(file: MeteredFile, head: bytes, name: str) -> Image.Image:
    if is_heif(head):
        return open_heif(file, name)
    try:
        return Image.open(file, formats=readers())
    except UnidentifiedImageError as error:
        kind, remedy = what_it_is(head)
        raise ImageError(f"{name} is no image {kind}. {remedy}.") from error


def _of_a_read_format(image: Image.Image, name: str) -> Image.Image:
    """Raises ImageError for an opened image that a program or another kind of reader would have to draw."""
    if isinstance(image, ImageFile.ImageFile) and image.format not in READ_FORMATS:
        raise ImageError(f"{name} is of the format {image.format}, which is not read. Convert it to JPEG or PNG.")
    return image


def _decode(image: Image.Image, name: str, max_pixels: int | None, is_ours: bool = False) -> Image.Image:
    """Loads all pixels, then brings them upright and to RGB.

    Args:
        image: opened, perhaps decoded.
        name: of the image.
        max_pixels: see `load_image`.
        is_ours: whether nobody else holds it: it may be made smaller then.

    Raises:
        ImageError: no pixels or too many.
    """
    check_pixels(image, name, max_pixels)
    image.load()
    turn = _turn_of(image)
    rgb = to_rgb(image, name, reduction(image, turn is not None) if is_ours else 1)
    if turn is None:
        return rgb
    if is_ours and rgb is not image:
        image.close()  # before there is a third copy
    return rgb.transpose(turn)


def _turn_of(image: Image.Image) -> Image.Transpose | None:
    """Returns what brings an image upright; None where nothing has to."""
    # Not ImageOps.exif_transpose: it also rewrites the EXIF block, which fails where an unrelated tag is damaged.
    try:
        return _TO_UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except _PILLOW_ERRORS:
        return None
