"""Reads JSON files of a checkpoint: a missing or damaged one is an error that names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .errors import UserError
from .stand_ins import stand_in
from .text_file import EncodingError, read_text

# A shard index of a 70B model has some 60 kB. Parsed, JSON takes up to twenty times its size in memory.
LARGEST_BYTES = 2**23


class ConfigError(UserError):
    """A configuration this project cannot honour; the message names the key, both values and the remedy."""


def read_json(path: Path, largest: int = LARGEST_BYTES) -> dict[str, Any]:
    """JSON object that a file holds.

    Args:
        path: the file: UTF-8, or UTF-16 or UTF-32 with a byte order mark.
        largest: bytes it may have.

    Raises:
        ConfigError: the file is missing or no JSON object, or larger than any of its kind; the message names it.
    """
    try:
        _refuse_unlike(path, largest)
        value = json.loads(read_text(path))
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing") from None
    except ConfigError:
        raise
    except EncodingError as error:
        raise ConfigError(str(error)) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path} holds no JSON object")
    return value


def _refuse_unlike(path: Path, largest: int) -> None:
    """Raises ConfigError for what can be told from outside: no file, one too large, a pointer or page in its place."""
    if path.exists() and not path.is_file():  # reading a pipe would wait for its other end
        raise ConfigError(f"{path} is no regular file")
    size = path.stat().st_size
    if size > largest:
        raise ConfigError(f"{path} has {size:,} bytes; a file of this kind has at most {largest:,}")
    if sentence := stand_in(path):
        raise ConfigError(sentence)
