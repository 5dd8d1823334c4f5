"""Loads an image file and preprocesses it into `pixel_values`, as the vision stage was trained on.

Needs numpy and Pillow only. `preprocess` gives exactly the pixels of `CLIPImageProcessor` (after LLaVA's
`expand2square` where the checkpoint pads), in bounded memory for images of every shape.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from .checkpoint.config import ModelConfig
from .errors import UserError

MAX_PIXELS = 178_956_970  # where Pillow itself refuses, twice its `Image.MAX_IMAGE_PIXELS`
_STRIP_PIXELS = 1 << 23  # 32 MiB: what one strip of a resize pass may hold
# Up to here `preprocess` is exact. Its time grows with edge**2 (tall, padded) and with the ratio (cropped); beyond, it
# approximates, see `_tame`.
_LONGEST_EXACT_EDGE = 24_000
_LARGEST_EXACT_RATIO = 2_000
# Pillow's readers raise any of these on a damaged file; a user needs one kind of error.
_PILLOW_ERRORS = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, EOFError),
    *(RuntimeError, ImportError, MemoryError, struct.error, zlib.error),
)
_TO_UPRIGHT = {  # by EXIF orientation; 1 is upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(UserError):
    """An image that cannot be used; the message names it, the problem and the remedy."""


@dataclass(frozen=True)
class ImageSpec:
    """Preprocessing of images for a checkpoint's vision tower.

    Attributes:
        image_size: edge of the square the tower sees, in pixels.
        mean: per channel, of values in 0..1; also the padding colour, as int(mean * 255).
        std: per channel, of values in 0..1.
        aspect_ratio: "pad" expands to a square of the longer edge; "resize" makes the whole image a square, whatever
            its shape; anything else crops the centre, losing borders.
        shortest_edge: resize target of the shorter edge where it differs from the crop; None means image_size.

    Raises:
        ImageError: a size below 1, or mean or std that are no three usable numbers.
    """

    image_size: int
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    aspect_ratio: str | None = "pad"
    shortest_edge: int | None = None

    @classmethod
    def of(cls, config: ModelConfig) -> ImageSpec:
        """Preprocessing of a model; ConfigError for one without a vision tower."""
        vision, aspect_ratio = config.tower, config.image_aspect_ratio
        return cls(
            image_size=vision.image_size,
            mean=vision.image_mean,
            std=vision.image_std,
            aspect_ratio=aspect_ratio if aspect_ratio == "pad" or vision.do_center_crop else "resize",
            shortest_edge=vision.shortest_edge,
        )

    def __post_init__(self) -> None:
        for name in ("image_size", "shortest_edge"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ImageError(f"{name} is {value}, it must be at least 1: correct preprocessor_config.json.")
        if len(self.mean) != 3 or not all(0 <= value <= 1 for value in self.mean):
            raise ImageError(f"mean is {self.mean}, not three numbers in 0..1: correct preprocessor_config.json.")
        if len(self.std) != 3 or not all(0 < value < float("inf") for value in self.std):
            raise ImageError(f"std is {self.std}, not three numbers above 0: correct preprocessor_config.json.")


def as_list(image: Any) -> list[Any]:
    """List of the given images: none for None, one for a single image."""
    if image is None:
        return []
    return list(image) if isinstance(image, (list, tuple)) else [image]


def load_image(source: str | Path | bytes | Image.Image) -> Image.Image:
    """Read an image as a viewer shows it: first frame, upright, transparency on white, RGB.

    16-bit gray is scaled to 8 bit. Float gray is taken as 0..1 if all of it lies there, else as 0..255, clipped.

    Args:
        source: a file, the bytes of a file, or an opened image; of the last, the current frame counts.

    Returns:
        A decoded image of mode RGB; `source` itself where nothing had to change.

    Raises:
        ImageError: missing, empty, damaged, not an image, or more than MAX_PIXELS (found before decoding).
    """
    name = str(source) if isinstance(source, (str, Path)) else f"The given {type(source).__name__}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of large images and odd metadata: both are handled here
        try:
            if isinstance(source, Image.Image):
                return _decode(source, name)
            with Image.open(_openable(source, name)) as image:
                return _decode(image, name)
        except ImageError:
            raise
        except Image.DecompressionBombError as error:
            problem = str(error).split(",")[0]  # "Image size (N pixels) exceeds limit of M pixels"
            raise ImageError(f"{name} is too large: {problem}. Shrink it first.") from error
        except UnidentifiedImageError as error:
            raise ImageError(f"{name} is no image that Pillow can read. Convert it to JPEG or PNG.") from error
        except _PILLOW_ERRORS as error:
            raise ImageError(f"{name} cannot be read: {error}. Copy it again or save it anew as PNG.") from error


def preprocess(image: Image.Image, spec: ImageSpec) -> np.ndarray:
    """Resize, crop and normalise one image for the vision stage.

    Args:
        image: mode RGB, as `load_image` returns it.
        spec: of the vision tower.

    Returns:
        (1, 3, image_size, image_size) float32, C-contiguous, (value / 255 - mean) / std.

    Raises:
        ImageError: the image is not RGB or has no pixels.
    """
    if image.mode != "RGB" or 0 in image.size:
        raise ImageError(f"The image is {image.mode} {image.size}, not RGB with pixels: use load_image first.")
    pixels = np.asarray(_resize_and_crop(_tame(image, spec), spec), dtype=np.float32) / 255
    normalised = (pixels - np.asarray(spec.mean, np.float32)) / np.asarray(spec.std, np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1)[None])


def _openable(source: str | Path | bytes, name: str) -> Path | BytesIO:
    """Argument for `Image.open`, once the mistakes are ruled out whose messages in Pillow do not help."""
    opened: Path | BytesIO = BytesIO(source) if isinstance(source, bytes) else Path(source)
    if isinstance(opened, Path) and opened.is_dir():
        raise ImageError(f"{name} is a directory. Name one image in it.")
    if isinstance(opened, Path) and not opened.exists():
        raise ImageError(f"{name} does not exist. Check the path, it starts from {Path.cwd()}.")
    if (opened.stat().st_size if isinstance(opened, Path) else opened.getbuffer().nbytes) == 0:
        raise ImageError(f"{name} is empty (0 bytes). Copy or download it again.")
    return opened


def _decode(image: Image.Image, name: str) -> Image.Image:
    """Load all pixels, then bring them upright and to RGB; raises ImageError for no pixels or too many."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"{name} has {width} x {height} pixels, the limit is {MAX_PIXELS}. Shrink it first.")
    if width * height == 0:
        raise ImageError(f"{name} has {width} x {height} pixels. Give an image with at least one.")
    image.load()
    # Not ImageOps.exif_transpose: it also rewrites the EXIF block, which fails where an unrelated tag is damaged.
    try:
        turn = _TO_UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except _PILLOW_ERRORS:
        turn = None
    image = _to_rgb(image)
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert to mode RGB; where the image is transparent, white shows through."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _deep_gray_to_8_bit(image).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB") if image.mode != "RGB" else image
    image = image.convert("RGBA")
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(image, mask=image.getchannel("A"))
    return canvas


def _deep_gray_to_8_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit or float gray to mode L, because Pillow's own conversion clips it to white."""
    values = np.nan_to_num(np.asarray(image).astype(np.float32))
    if image.mode == "F":
        values *= 255 if values.min() >= 0 and values.max() <= 1 else 1
    else:
        if (transparent := image.info.get("transparency")) is not None:
            values[values == transparent] = 65535
        values /= 257
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))


def _tame(image: Image.Image, spec: ImageSpec) -> Image.Image:
    """Reduce images beyond the exact limits, to bound the work; all others pass unchanged.

    Padded, a whole-number box reduction comes first: the 70-fold resize that follows hides it. Cropped, both ends go
    in whole squares, which keeps the resize grid up to a fraction of one output pixel over the length of the image.
    """
    short, long = sorted(image.size)
    if spec.aspect_ratio == "pad":
        return image.reduce(-(-long // _LONGEST_EXACT_EDGE)) if long > _LONGEST_EXACT_EDGE else image
    if spec.aspect_ratio == "resize":
        return image
    cut = max(0, long // short - _LARGEST_EXACT_RATIO) // 2 * short
    left, top = (cut, 0) if image.width == long else (0, cut)
    return image.crop((left, top, image.width - left, image.height - top)) if cut else image


def _resize_and_crop(image: Image.Image, spec: ImageSpec) -> Image.Image:
    """Expand to a square if the spec says so, resize bicubically, crop the centre (black where there is too little)."""
    edge = spec.image_size if spec.aspect_ratio == "resize" else spec.shortest_edge or spec.image_size
    short, long = sorted(image.size)
    fill = tuple(int(value * 255) for value in spec.mean)
    # The width first, rounded to 8 bits, then the height: Pillow's order when the checkpoints were trained. Newer ones
    # (seen: 12.3, 13.0) swap it for some tall images, over 20 gray levels apart on noise.
    for side in image.size:
        padded, resized = long if spec.aspect_ratio == "pad" else side, edge
        if spec.aspect_ratio not in ("pad", "resize"):
            resized = int(edge * side / short)
        image = _resize_width(image, padded, resized, min(resized, spec.image_size), fill)
        image = image.transpose(Image.Transpose.TRANSPOSE)
    left, top = ((side - spec.image_size) // 2 for side in image.size)
    return image.crop((left, top, left + spec.image_size, top + spec.image_size))


def _resize_width(image: Image.Image, padded: int, resized: int, kept: int, fill: tuple[int, ...]) -> Image.Image:
    """One pass of the resize: pad rows to `padded` with `fill`, resize to `resized`, keep the middle `kept` pixels.

    Goes strip by strip, so neither the padded nor the resized image, over 0.9 GB for 20,000 x 10, exists whole. Rows
    do not mix in this pass and one flat colour stays itself, so the result is that of the whole image.
    """
    left = (resized - kept) // 2
    rows = max(1, _STRIP_PIXELS // max(padded, resized))
    result = Image.new("RGB", (kept, image.height))
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        strip = Image.new("RGB", (padded, bottom - top), fill)
        strip.paste(image.crop((0, top, image.width, bottom)), ((padded - image.width) // 2, 0))
        strip = strip.resize((resized, bottom - top), Image.Resampling.BICUBIC)
        result.paste(strip.crop((left, 0, left + kept, bottom - top)), (0, top))
    return result
