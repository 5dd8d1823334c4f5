"""Images of a request: `data:` URLs as clients spell them; format and size are checked before they are decoded."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import warnings
from io import BytesIO

from PIL import Image

from .errors import ApiError
from .remote_images import fetch

# What cameras, browsers and phones send. Pillow reads many more, some of them in minutes or gigabytes.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
_DATA_URL = re.compile(r"data:(?P<type>[\w.+/-]*)(?:;[\w=.+-]+)*;base64,", re.IGNORECASE)


async def read_image(url: str, param: str, max_pixels: int, max_bytes: int, allow_remote: bool) -> bytes:
    """Returns the file that an image URL names, of a format that is taken.

    Args:
        url: a `data:` URL, or http(s) where remote ones are allowed.
        param: field of the request that it came from.
        max_pixels: most pixels.
        max_bytes: largest file to fetch.
        allow_remote: whether remote URLs are fetched.

    Raises:
        ApiError: it is no image, too large, or not allowed.
    """
    if url[:5].lower() == "data:":
        content = _decoded(url, param)
    elif url[:7].lower() == "http://" or url[:8].lower() == "https://":
        if not allow_remote:
            raise ApiError(
                400, "remote images are not fetched: send a data: URL, or start with --allow-remote-images", param
            )
        content = await asyncio.to_thread(fetch, url, max_bytes, param)
    else:
        raise ApiError(400, f"an image has to be a data: URL, not {url[:24]!r}", param)
    _check(content, param, max_pixels)
    return content


def _decoded(url: str, param: str) -> bytes:
    """Decodes base64 with line breaks, the URL-safe alphabet, or without padding."""
    head = _DATA_URL.match(url)
    if head is None:
        raise ApiError(400, "the data: URL has no ;base64, part", param)
    text = re.sub(r"\s|%0[aAdD]|%20", "", url[head.end() :]).replace("%3D", "=").replace("%2B", "+").replace("%2F", "/")
    text = text.rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(400, "the image's base64 cannot be decoded", param) from None


def _check(content: bytes, param: str, max_pixels: int) -> None:
    """Reads an image's header; nothing is decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(BytesIO(content), formats=FORMATS) as image:
                width, height = image.size
    except Image.DecompressionBombError:
        raise ApiError(400, f"the image has too many pixels, at most {max_pixels:,} are taken", param) from None
    except Exception:  # Pillow's readers raise many kinds on damaged files
        raise ApiError(400, f"the image cannot be read: it has to be {', '.join(FORMATS)}", param) from None
    if width * height > max_pixels:
        raise ApiError(
            400,
            f"the image has {width} x {height} pixels, {max_pixels:,} are taken: scale it down (--max-pixels)",
            param,
        )
