"""Small pictures of every format that Pillow writes, and changes to them as disks, networks and enemies make them."""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Iterator

from PIL import Image, ImageCms

# Values that lengths, counts and sizes are replaced with.
_INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0xFFFF, 0x10000, 13000, 20000, 0x7FFFFFFF, 0xFFFFFFFF)
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F", "LAB", "I;16")
_TIFF = ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group3", "group4", "lzma", "zstd", "webp")


def seeds() -> dict[str, list[bytes]]:
    """Encoded pictures, by format."""
    Image.init()
    found: dict[str, list[bytes]] = {}
    for format in sorted(set(Image.SAVE) - {"PDF", "PALM"}):
        found[format] = [data for mode in _MODES for data in _encoded(mode, format, _options(format))]
    return {format: contents for format, contents in found.items() if contents}


def _options(format: str) -> list[dict]:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    more: dict[str, list[dict]] = {
        "JPEG": [{"exif": exif, "icc_profile": profile}, {"progressive": True}],
        "PNG": [
            {"exif": exif, "icc_profile": profile},
            {"save_all": True, "append_images": [Image.new("RGB", (9, 9))]},
        ],
        "TIFF": [{"compression": name} for name in _TIFF] + [{"tile": (16, 16)}, {"exif": exif}],
        "WEBP": [{"exif": exif, "icc_profile": profile}, {"lossless": True}],
        "GIF": [{"save_all": True, "append_images": [Image.new("P", (9, 9))]}],
        "AVIF": [{"exif": exif, "speed": 10}],
        "ICO": [{"sizes": [(16, 16), (32, 32)]}, {"bitmap_format": "bmp"}],
        "JPEG2000": [{"irreversible": True}],
    }
    return [{}, *more.get(format, [])]


def _encoded(mode: str, format: str, options: list[dict]) -> Iterator[bytes]:
    base = Image.radial_gradient("L").resize((24, 18))
    image = base.convert("RGB").convert("L") if mode == "I;16" else base.convert("RGB")
    for choice in options:
        buffer = io.BytesIO()
        try:
            (image.convert(mode) if mode != "LAB" else Image.new("LAB", (24, 18))).save(buffer, format, **choice)
        except (OSError, ValueError, KeyError, TypeError, struct.error, RuntimeError, AttributeError):
            continue  # not every format holds every mode
        yield buffer.getvalue()


def changed(data: bytes, rng: random.Random) -> bytes:
    """Changes a file: bits, bytes, whole numbers, lengths, order, end."""
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        _change(content, rng)
    return bytes(content)


def _change(content: bytearray, rng: random.Random) -> None:
    if not content:
        return
    at = int(len(content) * rng.random() ** rng.choice((1, 3)))
    kind = rng.randrange(7)
    if kind == 0:
        content[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        content[at] = rng.randrange(256)
    elif kind == 2:
        width = rng.choice((1, 2, 4))
        value = rng.choice(_INTERESTING) & (256**width - 1)
        content[at : at + width] = value.to_bytes(width, rng.choice(("big", "little")))
    elif kind == 3:
        del content[at:]
    elif kind == 4:
        end = at + rng.randrange(1, 64)
        content[at:at] = content[at:end] * rng.choice((1, 1, 2, 100))
    elif kind == 5:
        del content[at : at + rng.randrange(1, 16)]
    else:
        other = rng.randrange(len(content))
        content[at : at + 16] = content[other : other + 16]
