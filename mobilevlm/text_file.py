"""Reads text that people's editors wrote: UTF-8 with or without a byte order mark, or UTF-16 or UTF-32 with one."""

from __future__ import annotations

import codecs
from pathlib import Path

from .errors import UserError

# UTF-32's mark begins with UTF-16's: the longer one is looked for first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class EncodingError(UserError):
    """Bytes that are not text in an encoding that is read; the message names where they come from and what they are."""


def read_text(path: Path) -> str:
    """Text of a file, without its byte order mark.

    Raises:
        EncodingError: it is in another encoding.
        OSError: it cannot be read.
    """
    return decode_text(path.read_bytes(), str(path))


def decode_text(content: bytes, name: str) -> str:
    """Decodes a file's content, without its byte order mark.

    Args:
        content: all of it.
        name: of the file, for the message.

    Raises:
        EncodingError: it is in another encoding.
    """
    mark, encoding = next(((mark, name) for mark, name in _MARKS if content.startswith(mark)), (b"", "utf-8"))
    try:
        return content[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        found = _looks_like(content) if not mark else f"damaged {encoding.upper()}"
        raise EncodingError(
            f"{name} is not UTF-8: byte {error.start + len(mark)} is 0x{content[error.start + len(mark)]:02x}. "
            f"It looks like {found}: save it as UTF-8"
        ) from None


def _looks_like(content: bytes) -> str:
    """Guess at an encoding that has no mark; every byte means something in a Windows one."""
    start = content[:4096]
    zeros = start.count(0)
    if zeros * 3 > len(start):
        return "UTF-16 without a byte order mark"
    return "binary data" if zeros else "Latin-1 or a Windows code page"
