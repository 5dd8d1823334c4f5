"""Reads JSON files of a checkpoint: a missing or damaged one is an error that names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .errors import UserError
from .text_file import EncodingError, read_text


class ConfigError(UserError):
    """A configuration this project cannot honour; the message names the key, both values and the remedy."""


def read_json(path: Path) -> dict[str, Any]:
    """JSON object that a file holds.

    Raises:
        ConfigError: the file is missing or no JSON object; the message names it.
    """
    try:
        value = json.loads(read_text(path))
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing") from None
    except EncodingError as error:
        raise ConfigError(str(error)) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path} holds no JSON object")
    return value
