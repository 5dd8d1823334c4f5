"""Checks types and ranges of what a configuration file holds, because people edit these files."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

from ..errors import shown
from ..json_files import ConfigError, read_json

__all__ = ["ConfigError", "check_types", "read_json"]

# Python types of a field's values, by its annotation. JSON has one kind of number: 1 is a good float, 1.0 no good int.
_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
    "int | None": (int,),
    "float | None": (int, float),
    "str | None": (str,),
}
_SIZES = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("vocab_size", "head_dim", "max_position_embeddings", "image_size", "patch_size", "shortest_edge"),
    "longest_edge",
)
LARGEST_SIZE = 2**20
# Of fields that memory or time grows faster with.
_LARGEST = {"num_hidden_layers": 2**10}
_LARGEST |= dict.fromkeys(("image_size", "patch_size", "shortest_edge", "longest_edge"), 2**12)
_ABOVE_0 = ("rms_norm_eps", "layer_norm_eps", "rope_theta")


def check_types(cls: type, values: dict[str, Any], where: str) -> None:
    """Compare values with the annotations of a dataclass's fields.

    Args:
        cls: the dataclass, whose annotations are keys of `_TYPES` or tuples of three numbers.
        values: by field name, as JSON has them; absent ones and None pass.
        where: the file, for the message.

    Raises:
        ConfigError: it is no object, or a value has another type than its field, is not finite, or is a size that
            cannot be.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{where} is {shown(values)}; an object is needed")
    for entry in fields(cls):
        value = values.get(entry.name)
        if value is None or entry.name == "vision":
            continue
        annotation = str(entry.type)
        if annotation.startswith("tuple"):
            numbers = isinstance(value, (list, tuple)) and all(_is(item, (int, float)) for item in value)
            good = numbers and len(value) == 3
        else:
            good = _is(value, _TYPES[annotation])
        if not good:
            needed = "three numbers" if annotation.startswith("tuple") else annotation.removesuffix(" | None")
            raise ConfigError(f"{where} has {entry.name} {shown(value)}; {needed} is needed")
        most = _LARGEST.get(entry.name, LARGEST_SIZE)
        if entry.name in _SIZES and not 0 < value <= most:
            raise ConfigError(f"{where} has {entry.name} {shown(value)}; 1 to {most} is possible")
        if entry.name in _ABOVE_0 and not value > 0:
            raise ConfigError(f"{where} has {entry.name} {value}; it has to be above 0")


def _is(value: Any, types: tuple[type, ...]) -> bool:
    """isinstance, for which True is no number, and a number is finite."""
    if not isinstance(value, types) or bool not in types and isinstance(value, bool):
        return False
    return not isinstance(value, (int, float)) or abs(value) < 1e300 and math.isfinite(value)
