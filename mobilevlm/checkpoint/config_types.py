"""Reading configuration files that people edit: what is in them is checked before it is believed."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..errors import UserError


class ConfigError(UserError):
    """A configuration this project cannot honour; the message names the key, both values and the remedy."""


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ConfigError: the file is missing or no JSON object; the message names it.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path} holds no JSON object")
    return value


# What a field may hold, by its annotation. JSON has one kind of number: 1 is a good float, 1.0 no good int.
_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
    "int | None": (int,),
    "float | None": (int, float),
    "str | None": (str,),
}
_SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
_SIZES += ("vocab_size", "head_dim", "max_position_embeddings", "image_size", "patch_size", "shortest_edge")
LARGEST_SIZE = 2**20


def check_types(cls: type, values: dict[str, Any], where: str) -> None:
    """Compare the values that are there with a dataclass's annotations.

    Raises:
        ConfigError: one is of another type, or is a size that cannot be; `where` names the file.
    """
    for entry in fields(cls):
        value = values.get(entry.name)
        if value is None or entry.name == "vision":
            continue
        if entry.type.startswith("tuple"):
            numbers = isinstance(value, (list, tuple)) and all(_is(item, (int, float)) for item in value)
            good = numbers and len(value) == 3
        else:
            good = _is(value, _TYPES[entry.type])
        if not good:
            needed = "three numbers" if entry.type.startswith("tuple") else entry.type.removesuffix(" | None")
            raise ConfigError(f"{where} has {entry.name} {value!r}; {needed} is needed")
        if entry.name in _SIZES and not 0 < value <= LARGEST_SIZE:
            raise ConfigError(f"{where} has {entry.name} {value}; 1 to {LARGEST_SIZE} is possible")


def _is(value: Any, types: tuple[type, ...]) -> bool:
    """isinstance, for which True is no number."""
    return isinstance(value, types) and (bool in types or not isinstance(value, bool))
