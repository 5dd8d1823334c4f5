"""The error that a command reports in one line instead of a traceback, refused arguments, and paths as people type."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

# Controls, and what turns a line around: of a character class.
UNPRINTABLE = r"\x00-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069"
_SHOWN = 60  # characters of a value that a message repeats
_STEERING = re.compile(f"(?!\n)[{UNPRINTABLE}]")


class UserError(ValueError):
    """A mistake that the user can correct: commands print it and exit with 2. Any other error is a bug (1).

    Its text has none of `UNPRINTABLE` but line ends: what a file holds must not steer the terminal that it is shown in.
    """

    def __str__(self) -> str:
        return _STEERING.sub("\N{REPLACEMENT CHARACTER}", super().__str__())


def require(ok: bool, name: str, value: object, allowed: str) -> None:
    """Refuse an argument of a public call.

    Args:
        ok: whether it can be used.
        name: of the argument.
        value: what was given.
        allowed: what is possible, behind "it must be".

    Raises:
        UserError: it cannot; the message has all three.
    """
    if not ok:
        raise UserError(f"{name} is {shown(value)}; it must be {allowed}")


def shown(value: object) -> str:
    """Value as a message repeats it: in one line, cut where it is long."""
    if isinstance(value, int) and value.bit_length() > 4 * _SHOWN:  # Python refuses to write one of thousands of digits
        return f"an integer of {value.bit_length()} bits"
    text = " ".join(repr(value).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({type(value).__name__})"


def user_path(text: str | Path) -> Path:
    """Path as typed, with `~` expanded.

    Raises:
        UserError: it is no path, or there is no such user.
    """
    usable = isinstance(text, str | os.PathLike) and isinstance(os.fspath(text), str) and "\0" not in os.fspath(text)
    require(usable, "the path", text, "text or a pathlib.Path, without NUL characters")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UserError(f"{text} names a user this machine does not have") from None


def utf_8_path(text: str | Path) -> Path:
    """Path as typed, of files that packages open: their names, and those of the folders above, have to be UTF-8.

    Raises:
        UserError: see `user_path`; or it has other bytes, or this process reads names in another encoding.
    """
    path = user_path(text)
    name = os.fsencode(path.absolute())
    encoding = sys.getfilesystemencoding()
    if encoding.lower() not in ("utf-8", "utf8") and not name.isascii():
        raise UserError(f"{name!r} cannot be opened while this process reads names as {encoding}: set PYTHONUTF8=1")
    try:
        name.decode("utf-8")
    except UnicodeError:
        raise UserError(f"{name!r} is no UTF-8, which packages need to open it: rename it (mv)") from None
    return path
