"""Preprocesses an image into `pixel_values`, as the vision stage was trained on; `load_image` reads it.

Needs numpy and Pillow only. `preprocess` gives exactly the pixels of `CLIPImageProcessor` (after LLaVA's
`expand2square` where the checkpoint pads), in bounded memory for images of every shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from .checkpoint.config import ModelConfig
from .checkpoint.vision_config import BICUBIC
from .images.costs import MAX_PIXELS
from .images.image_error import ImageError
from .images.load import load_image
from .images.resize import resize_width, resized
from .images.tiles import is_tiled, longest_edge_size, tiles

__all__ = [
    "MAX_PIXELS",
    "ImageError",
    "ImageSpec",
    "as_list",
    "load_image",
    "pixel_values",
    "preprocess",
    "read_pixels",
]

# Up to here `preprocess` is exact. Its time grows with edge**2 (tall, padded) and with the ratio (cropped); beyond, it
# approximates, see `_tame`.
_LONGEST_EXACT_EDGE = 24_000
_LARGEST_EXACT_RATIO = 2_000


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
        resample: filter of every resize, as Pillow numbers them.
        longest_edge: pixels of the longer edge that the image is resized to first; None for none.
        is_tiled: whether it is cut into tiles (`images/tiles.py`) behind that.

    Raises:
        ImageError: a size below 1, or mean or std that are no three usable numbers.
    """

    image_size: int
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    aspect_ratio: str | None = "pad"
    shortest_edge: int | None = None
    resample: int = BICUBIC
    longest_edge: int | None = None
    is_tiled: bool = False

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
            resample=vision.resample,
            longest_edge=vision.longest_edge,
            is_tiled=vision.do_image_splitting,
        )

    def __post_init__(self) -> None:
        for name in ("image_size", "shortest_edge", "longest_edge"):
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


def pixel_values(image: Any, spec: ImageSpec, max_pixels: int | None = None) -> np.ndarray:
    """Loads and preprocesses an image, unless it is preprocessed already.

    Args:
        image: what `load_image` takes, or float32 of exactly the shape that is returned, returned as it is.
        spec: of the vision tower.
        max_pixels: see `load_image`.

    Returns:
        (1, 3, image_size, image_size) float32, C-contiguous; in tiles (rows + 1, columns, 3, image_size, image_size),
        see `images/tiles.py`.

    Raises:
        ImageError: the image cannot be read.
    """
    square = (1, 3, spec.image_size, spec.image_size)
    if isinstance(image, np.ndarray) and image.dtype == np.float32:
        if image.shape == square or (spec.is_tiled and is_tiled(image, square)):
            return np.ascontiguousarray(image)
    return read_pixels(load_image(image, max_pixels=max_pixels), spec)


def read_pixels(image: Image.Image, spec: ImageSpec) -> np.ndarray:
    """Preprocesses an image whole, or in tiles where the spec says so.

    Args:
        image: mode RGB, as `load_image` returns it.
        spec: of the vision tower.

    Returns:
        As of `pixel_values`.

    Raises:
        ImageError: the image is not RGB or has no pixels.
    """
    if not spec.is_tiled:
        return preprocess(image, spec)
    return tiles(_first(image, spec), spec.image_size, spec.resample, lambda square: _normalised(square, spec))


def preprocess(image: Image.Image, spec: ImageSpec) -> np.ndarray:
    """Resize, crop and normalise one whole image for the vision stage.

    Args:
        image: mode RGB, as `load_image` returns it.
        spec: of the vision tower.

    Returns:
        (1, 3, image_size, image_size) float32, C-contiguous, (value / 255 - mean) / std.

    Raises:
        ImageError: the image is not RGB or has no pixels.
    """
    return _normalised(_resize_and_crop(_first(image, spec), spec), spec)


def _first(image: Image.Image, spec: ImageSpec) -> Image.Image:
    """Check an image, bound the work on it, and resize it to the spec's longest edge."""
    if image.mode != "RGB" or 0 in image.size:
        raise ImageError(f"The image is {image.mode} {image.size}, not RGB with pixels: use load_image first.")
    image = _tame(image, spec)
    if spec.longest_edge is None:
        return image
    return resized(image, longest_edge_size(image.size, spec.longest_edge), spec.resample)


def _normalised(image: Image.Image, spec: ImageSpec) -> np.ndarray:
    pixels = np.asarray(image, dtype=np.float32) / 255
    normalised = (pixels - np.asarray(spec.mean, np.float32)) / np.asarray(spec.std, np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1)[None])


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
    """Expand to a square if the spec says so, resize, crop the centre (black where there is too little)."""
    edge = spec.image_size if spec.aspect_ratio == "resize" else spec.shortest_edge or spec.image_size
    short, long = sorted(image.size)
    fill = tuple(int(value * 255) for value in spec.mean)
    # The width first, rounded to 8 bits, then the height: Pillow's order when the checkpoints were trained. Newer ones
    # (seen: 12.3, 13.0) swap it for some tall images, over 20 gray levels apart on noise.
    for side in image.size:
        padded, resized = long if spec.aspect_ratio == "pad" else side, edge
        if spec.aspect_ratio not in ("pad", "resize"):
            resized = int(edge * side / short)
        image = resize_width(image, padded, resized, min(resized, spec.image_size), spec.resample, fill)
        image = image.transpose(Image.Transpose.TRANSPOSE)
    left, top = ((side - spec.image_size) // 2 for side in image.size)
    return image.crop((left, top, left + spec.image_size, top + spec.image_size))
