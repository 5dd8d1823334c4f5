"""Colours as sRGB: profiles and Lab by LittleCMS, deep gray by its range, transparency on white."""

from __future__ import annotations

import struct
from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms, features

from .deep_gray import deep_gray_to_8_bits

Conversion = Callable[[Image.Image], Image.Image]
_STRIP_PIXELS = 1 << 20
_LARGEST_PROFILE = 8 << 20  # those of presses have 0.5 to 3 MB
_GRAY = ("L", "LA", "La", "1")
_SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab "}
_CLASSES = ("scnr", "mntr", "prtr", "spac")
_SAME = 2  # gray levels within which a profile is sRGB's, and pixels stay as they are
_PROFILE_ERRORS = (ImageCms.PyCMSError, *(OSError, ValueError, TypeError, ArithmeticError, MemoryError, struct.error))


def to_rgb(image: Image.Image, name: str, reduction: int = 1) -> Image.Image:
    """Converts a decoded image to mode RGB, strip by strip where it is large.

    Args:
        image: of any mode.
        name: of the image, for errors.
        reduction: whole number by which both sides shrink, as `Image.reduce` does.

    Returns:
        The image itself where nothing has to change.

    Raises:
        ImageError: its range cannot be known.
    """
    convert = _conversion(image, name)
    if convert is None:
        return image if reduction == 1 else image.reduce(reduction)
    if image.width * image.height <= _STRIP_PIXELS and reduction == 1:
        return convert(image)
    rows = max(1, _STRIP_PIXELS // image.width // reduction) * reduction
    result = Image.new("RGB", (-(-image.width // reduction), -(-image.height // reduction)))
    for top in range(0, image.height, rows):
        strip = convert(image.crop((0, top, image.width, min(top + rows, image.height))))
        result.paste(strip if reduction == 1 else strip.reduce(reduction), (0, top // reduction))
    return result


def needs_conversion(image: Image.Image) -> bool:
    """Whether `to_rgb` makes another image, judged before decoding; True where it might."""
    return image.mode != "RGB" or image.has_transparency_data or bool(image.info.get("icc_profile"))


def _conversion(image: Image.Image, name: str) -> Conversion | None:
    """Returns what converts the image or a strip of it; None where it is sRGB without transparency."""
    if image.mode == "F" or image.mode.startswith("I"):
        to_gray = deep_gray_to_8_bits(image, name)
        return lambda strip: to_gray(strip).convert("RGB")
    colors = _color_conversion(image)
    if image.has_transparency_data:
        return lambda strip: _on_white(strip, colors)
    return None if colors is None and image.mode == "RGB" else colors or (lambda strip: strip.convert("RGB"))


def _on_white(image: Image.Image, colors: Conversion | None) -> Image.Image:
    if image.mode == "La":  # Pillow converts it to LA alone
        image = image.convert("LA")
    image = image.convert("RGBA")
    opaque = image if colors is None else colors(image.convert("RGB"))
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(opaque, mask=image.getchannel("A"))
    return canvas


def _color_conversion(image: Image.Image) -> Conversion | None:
    """Returns what applies the image's profile, or that of Lab; None for sRGB and for a profile that is not usable."""
    if not features.check("littlecms2"):
        return None
    profile = image.info.get("icc_profile")
    if profile and len(profile) <= _LARGEST_PROFILE:
        mode = "L" if image.mode in _GRAY else image.mode if image.mode in ("CMYK", "LAB") else "RGB"
        try:
            opened = ImageCms.ImageCmsProfile(BytesIO(profile))
            if mode == "L" and opened.profile.xcolor_space == "RGB ":
                mode = "RGB"
            if opened.profile.xcolor_space == _SPACES[mode] and opened.profile.device_class in _CLASSES:
                return _transform(opened, mode)
        except _PROFILE_ERRORS:  # damaged: the picture is shown as if it had none
            pass
    return _transform(ImageCms.createProfile("LAB"), "LAB") if image.mode == "LAB" else None


def _transform(profile: ImageCms.ImageCmsProfile | ImageCms.core.CmsProfile, mode: str) -> Conversion | None:
    transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB")

    def convert(strip: Image.Image) -> Image.Image:
        given = strip if strip.mode == mode else strip.convert(mode)
        converted = ImageCms.applyTransform(given, transform)
        assert converted is not None  # None is what it returns in place
        return converted

    return None if mode in ("RGB", "L") and _is_identity(convert, mode) else convert


def _is_identity(convert: Conversion, mode: str) -> bool:
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(len(levels), -1, 3)
    samples = Image.fromarray(grid) if mode == "RGB" else Image.fromarray(levels[None])
    changed = np.asarray(convert(samples)).astype(int) - np.asarray(samples.convert("RGB"))
    return bool(np.abs(changed).max() <= _SAME)
