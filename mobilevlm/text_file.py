"""Reads text that people's editors wrote: UTF-8 with or without a byte order mark, or UTF-16 or UTF-32 with one."""

from __future__ import annotations

import codecs
import io
import re
from pathlib import Path
from typing import TextIO

from .errors import UserError

# UTF-32's mark begins with UTF-16's: the longer one is looked for first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_HALF = re.compile("[\ud800-\udfff]")


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
    mark, encoding = mark_of(content)
    if not mark and _is_utf16(content):  # with ASCII alone it is UTF-8 as well, of every second character NUL
        raise EncodingError(f"{name} is not UTF-8. It looks like {looks_like(content)}: save it as UTF-8")
    try:
        return content[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        found = looks_like(content) if not mark else f"damaged {encoding.upper()}"
        raise EncodingError(
            f"{name} is not UTF-8: byte {error.start + len(mark)} is 0x{content[error.start + len(mark)]:02x}. "
            f"It looks like {found}: save it as UTF-8"
        ) from None


def mark_of(content: bytes) -> tuple[bytes, str]:
    """Byte order mark that a content begins with, empty if none, and the encoding of what comes behind it."""
    return next(((mark, name) for mark, name in _MARKS if content.startswith(mark)), (b"", "utf-8"))


def open_text(path: Path) -> TextIO:
    """Opens a file too large to be read at once, or a pipe, behind its byte order mark; line ends stay as they are.

    Raises:
        OSError: it cannot be opened.
    """
    file = path.open("rb")
    try:
        mark, encoding = mark_of(file.peek(4))
        file.read(len(mark))
    except BaseException:
        file.close()
        raise
    return io.TextIOWrapper(file, encoding=encoding, newline="")


def lone_surrogate(text: str) -> str | None:
    """First half of a surrogate pair in a text, as JSON escapes it; None if there is none.

    It is left where a program cut a text in UTF-16 amid an emoji. No encoding has it, so that no tokenizer takes it.
    """
    found = _HALF.search(text)
    return f"\\u{ord(found[0]):04x}" if found else None


def printable(value: object) -> str:
    """Text of a value for a message: what no encoding has is escaped."""
    return str(value).encode("utf-8", "backslashreplace").decode()


def looks_like(content: bytes) -> str:
    """Guess at an encoding that has no mark; every byte means something in a Windows one."""
    if _is_utf16(content):
        return "UTF-16 without a byte order mark"
    return "binary data" if 0 in content[:4096] else "Latin-1 or a Windows code page"


def _is_utf16(content: bytes) -> bool:
    start = content[:4096]
    return start.count(0) * 3 > len(start)
