"""Time and memory that decoding takes, estimated from an image's header, and refusals of what takes too much."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from .color import needs_conversion
from .image_error import ImageError
from .jpeg_scans import count_scans

MAX_PIXELS = 178_956_970  # where Pillow itself refuses, twice its `Image.MAX_IMAGE_PIXELS`
MEMORY = 320e6  # bytes that an image may take besides the process, which has some 60 MB
SECONDS = 1.8
_READ = (  # names of Pillow's readers of what is photographed, scanned or drawn
    *("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "JPEG2000", "PPM", "TGA", "ICO", "PCX"),
    *("SGI", "PSD", "QOI"),
)
READ_FORMATS = frozenset({*_READ, "MPO", "HEIF"})
_LARGEST_ICON = 4 << 20  # pixels; systems use up to 1024 x 1024
_PROGRESSIVE_SCAN = 900e6  # pixels a second and scan


@dataclass(frozen=True)
class _Cost:
    """Cost of a codec, measured on one x86 core or rounded down from it.

    Attributes:
        memory: bytes a pixel besides the decoded image.
        pixels: a second, where the file says next to nothing of them.
        file_bytes: a second, where all of them are noise.
    """

    memory: float
    pixels: float
    file_bytes: float


_COSTS = {  # by Pillow's name of the decoder, or of the format where it has no decoder of its own
    "raw": _Cost(0.3, 150e6, 300e6),
    "zip": _Cost(0.3, 180e6, 30e6),
    "jpeg": _Cost(0.3, 190e6, 40e6),
    "gif": _Cost(0.3, 200e6, 60e6),
    "tga_rle": _Cost(0.3, 100e6, 60e6),
    "pcx": _Cost(0.3, 100e6, 60e6),
    "packbits": _Cost(0.3, 100e6, 60e6),
    "sgi_rle": _Cost(4, 60e6, 60e6),
    "libtiff": _Cost(0.3, 60e6, 25e6),
    "WEBP": _Cost(12.5, 50e6, 30e6),
    "AVIF": _Cost(6, 70e6, 5.5e6),
    "HEIF": _Cost(4, 70e6, 8e6),
    "jpeg2k": _Cost(17, 28e6, 2.5e6),
    "qoi": _Cost(12, 9e6, 4.5e6),
}
_IN_PYTHON = _Cost(12, 1.5e6, 3e6)  # Pillow's decoders for rare kinds of BMP, PPM and others


def readers() -> list[str]:
    """Names of Pillow's readers to try, of those that it was built with."""
    Image.init()
    return [name for name in _READ if name in Image.OPEN]


def decoded_bytes(image: Image.Image) -> int:
    """Bytes of an image once it is decoded, as Pillow stores them."""
    return image.width * image.height * (1 if image.mode in ("1", "L", "P") else 2 if image.mode[:4] == "I;16" else 4)


def check_pixels(image: Image.Image, name: str, max_pixels: int | None) -> None:
    """Raises ImageError for an image without pixels, or with more than `max_pixels` or MAX_PIXELS.

    Args:
        image: not decoded yet.
        name: of the image.
        max_pixels: limit that was asked for; None for MAX_PIXELS.
    """
    width, height = image.size
    limit = MAX_PIXELS if max_pixels is None else min(max_pixels, MAX_PIXELS)
    if width * height > limit:
        raise ImageError(f"{name} has {width} x {height} pixels, the limit is {limit}. Shrink it first.")
    if width * height == 0:
        raise ImageError(f"{name} has {width} x {height} pixels. Give an image with at least one.")


def check_cost(image: Image.Image, name: str, data: bytes | None, size: int) -> float:
    """Refuses an image whose decoding would take more than SECONDS or MEMORY.

    Args:
        image: opened, not decoded.
        name: of the image.
        data: the file's bytes, for a JPEG.
        size: of the file, in bytes.

    Returns:
        Bytes that decoding holds; of a JPEG, without the image, which can be made smaller.

    Raises:
        ImageError: with the estimate.
    """
    tiles: Sequence[tuple[Any, ...]] = getattr(image, "tile", [])
    codec = tiles[0][0] if tiles else ""
    cost = _COSTS.get(image.format or "") or _COSTS.get(codec, _IN_PYTHON)
    pixels = image.width * image.height
    memory, seconds = cost.memory * pixels + decoded_bytes(image), pixels / cost.pixels + size / cost.file_bytes
    if data is not None:
        memory, seconds = _jpeg_cost(image, data, size, cost)
    elif codec == "libtiff":
        memory += size + _strip_bytes(image)
        seconds *= 5 if image.info.get("compression") in ("lzma", "webp", "jbig") else 1
    elif codec == "raw" and len(tiles) > 1:  # planes, read one by one
        memory += 2 * size / len(tiles)
    elif image.format in ("WEBP", "AVIF", "HEIF", "JPEG2000"):
        memory += size
    if image.format == "TIFF" and getattr(image, "tag_v2", {}).get(274, 1) != 1:
        memory += decoded_bytes(image)  # Pillow turns it itself
    if memory > MEMORY or seconds > SECONDS:
        remedy = "Shrink it first" if data is not None else "Shrink it first, save it as JPEG"
        takes = f"{memory / 1e6:,.0f} MB" if memory > MEMORY else f"{seconds:.1f} s"
        raise ImageError(
            f"{name} has {image.width} x {image.height} pixels in {size / 1e6:,.1f} MB of {image.format}, whose "
            f"decoding would take about {takes}. {remedy}, or allow it with a larger limit of "
            f"pixels (--max-pixels {pixels})."
        )
    return memory


def reduction(image: Image.Image, turns: bool) -> int:
    """Returns the whole number by which an image's sides shrink so that converting and turning it stays in MEMORY.

    Args:
        image: opened; only its header counts.
        turns: whether it will be turned upright.
    """
    pixels, decoded = image.width * image.height, decoded_bytes(image)
    copies = max(needs_conversion(image), 2 * turns)
    room = MEMORY - decoded
    if copies == 0 or 4 * copies * pixels <= room:
        return 1
    return math.ceil(math.sqrt(4 * copies * pixels / max(room, MEMORY / 20)))


def draft_scale(image: Image.Image, turns: bool, held: float) -> int:
    """Returns 1, 2, 4 or 8: how much smaller a JPEG is decoded so that all of it stays in MEMORY.

    Args:
        image: opened, not decoded.
        turns: whether it will be turned upright.
        held: bytes that decoding holds besides the image.
    """
    whole = decoded_bytes(image) + 4 * max(needs_conversion(image), turns) * image.width * image.height
    return next((scale for scale in (1, 2, 4) if held + whole / scale**2 <= MEMORY * 0.95), 8)


def check_icon(data: bytes, name: str) -> None:
    """Raises ImageError for a Windows icon that holds too large an image: Pillow decodes it when it opens it.

    Args:
        data: the file's bytes.
        name: of the image.
    """
    for entry in range(6, 6 + 16 * min(int.from_bytes(data[4:6], "little"), 1024), 16):
        at = int.from_bytes(data[entry + 12 : entry + 16], "little")
        head = data[at : at + 24]
        form, start = (">II", 16) if head[:4] == b"\x89PNG" else ("<II", 4)
        width, height = struct.unpack_from(form, head.ljust(24, b"\0"), start)
        if width * height > _LARGEST_ICON:
            raise ImageError(f"{name} is an icon that holds {width} x {height} pixels. Save it as PNG instead.")


def _jpeg_cost(image: Image.Image, data: bytes, size: int, cost: _Cost) -> tuple[float, float]:
    """Returns bytes and seconds of a JPEG, of which only the draft is kept but all coefficients where it has scans."""
    pixels, scans = image.width * image.height, count_scans(data)
    seconds = pixels / cost.pixels + size / cost.file_bytes
    if scans <= 1:
        return 0.0, seconds
    layers: Any = getattr(image, "layer", [])
    largest = max((h * v for _, h, v, *_ in layers), default=1)
    samples = sum(h * v for _, h, v, *_ in layers) / largest
    return 2 * samples * pixels, seconds + size / cost.file_bytes + pixels * scans / _PROGRESSIVE_SCAN


def _strip_bytes(image: Image.Image) -> int:
    """Returns the bytes of a TIFF's strip or tile, which libtiff holds decoded."""
    tags: Any = getattr(image, "tag_v2", {})
    rows = min(tags.get(278) or image.height, image.height) if 322 not in tags else tags.get(323, image.height)
    columns = tags.get(322, image.width)
    bits = sum(tags.get(258, (8,))) * (tags.get(277, 1) if len(tags.get(258, (8,))) == 1 else 1)
    return int(rows) * int(columns) * max(8, int(bits)) // 8
