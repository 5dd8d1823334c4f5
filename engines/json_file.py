"""Reads JSON that nobody vouches for: a regular file of bounded size and depth, or an error that says what it is."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from mobilevlm.text_file import decode_text

LARGEST_JSON = 1 << 20  # bytes; the longest manifest of a build has some 60 kB
DEEPEST_JSON = 32  # levels; a manifest has 6


def open_regular(path: Path) -> BinaryIO:
    """Opens a file for reading. A FIFO or device, which may never answer, is refused without waiting for it.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise OSError(errno.EINVAL, "no regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_json_file(path: Path, most_bytes: int = LARGEST_JSON) -> tuple[Any, bytes]:
    """Reads a JSON file.

    Args:
        path: of the file.
        most_bytes: that are read; a longer file is refused.

    Returns:
        Its value, and the bytes it was read from.

    Raises:
        OSError: it cannot be read, or is no regular file.
        ValueError: it is too large or too deep, no JSON, or has a key twice or a number that is not finite.
    """
    with open_regular(path) as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"it has more than {most_bytes} bytes")
    return parse_json(decode_text(content, path.name)), content


def parse_json(text: str) -> Any:
    """Parses JSON of bounded depth, with every key once and finite numbers.

    Raises:
        ValueError: it is something else.
    """
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {DEEPEST_JSON} levels") from None
    level, depth = [value], 0
    while level:  # no recursion, whose limit depends on the caller
        level = [inner for one in level for inner in _inside(one)]
        depth += 1
        if depth > DEEPEST_JSON:
            raise ValueError(f"it is nested deeper than {DEEPEST_JSON} levels")
    return value


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it has {next(name for name in names if names.count(name) > 1)!r} twice")
    return found


def _refuse(text: str) -> float:
    raise ValueError(f"it has the number {text}")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)
