"""Compares JSON with type hints: dataclasses and TypedDicts are the schema of the files that a bundle has.

A device needs no package for it. `pydantic` and `msgspec` would check no more of these few files, and are compiled code
that a board's Python has to have a wheel of.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

T = TypeVar("T")
# Python types of JSON's values; a whole number is a good float, True is no number.
SCALARS: dict[type, tuple[type, ...]] = {int: (int,), float: (int, float), str: (str,), bool: (bool,)}
LONGEST_SHOWN = 60  # characters of a wrong value in a message


class SchemaError(ValueError):
    """A value that is not of its type or range; the message names the field."""


@dataclass(frozen=True)
class Between:
    """Range of a number, both ends included."""

    least: float
    most: float

    def problem(self, value: Any) -> str | None:
        """Returns what is needed instead of a value; None where it is right."""
        return None if self.least <= value <= self.most else f"{self.least} to {self.most}"


@dataclass(frozen=True)
class Matches:
    """Form of a text.

    Attributes:
        pattern: regular expression of all of it.
        what: it is, for the message.
    """

    pattern: str
    what: str

    def problem(self, value: Any) -> str | None:
        """Returns what is needed instead of a value; None where it is right."""
        return None if re.fullmatch(self.pattern, value) else self.what


@dataclass(frozen=True)
class OneOf:
    """Texts that are possible."""

    texts: tuple[str, ...]

    def problem(self, value: Any) -> str | None:
        """Returns what is needed instead of a value; None where it is right."""
        return None if value in self.texts else " or ".join(self.texts)


@dataclass(frozen=True)
class Length:
    """Number of a list's items."""

    count: int

    def problem(self, value: Any) -> str | None:
        """Returns what is needed instead of a value; None where it is right."""
        return None if len(value) == self.count else f"a list of {self.count}"


def typed(cls: type[T], value: Any, where: str = "") -> T:
    """Converts a JSON value to a type whose hints it fits.

    Args:
        cls: a dataclass, whose instance is returned, a TypedDict, or any type that is built of them and of dict, list,
            tuple, unions, `Annotated` with one of the checks above, int, float, str and bool.
        value: as `json` parsed it.
        where: name of the value, for messages.

    Raises:
        SchemaError: a value is of another type or range, or a field is missing or unknown.
    """
    found: T = _typed(cls, value, where)
    return found


def _typed(hint: Any, value: Any, where: str) -> Any:
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin is Annotated:
        found = _typed(inner[0], value, where)
        for check in inner[1:]:
            if needed := check.problem(found):
                raise _wrong(where, value, needed)
        return found
    if origin in (Union, UnionType):
        return _one_of(inner, value, where)
    if is_dataclass(hint) or is_typeddict(hint):
        return _fields(hint, value, where)
    if origin in COLLECTIONS:
        return COLLECTIONS[origin](inner, value, where)
    if hint is None or hint is type(None):
        good = value is None
    else:
        good = isinstance(value, SCALARS[hint]) and (hint is bool or not isinstance(value, bool))
    if not good or hint is float and abs(value) > sys.float_info.max:
        raise _wrong(where, value, getattr(hint, "__name__", "null"))
    return value


def _one_of(hints: tuple[Any, ...], value: Any, where: str) -> Any:
    problems = []
    for hint in hints:
        try:
            return _typed(hint, value, where)
        except SchemaError as error:
            problems.append(error)
    raise problems[0]


def _fields(cls: type, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(where, value, "an object")
    hints, required = _schema(cls)
    if unknown := sorted(value.keys() - hints.keys()):
        raise SchemaError(f"{_inside(where, unknown[0])} is no field that this version knows")
    if missing := sorted(required - value.keys()):
        raise SchemaError(f"{_inside(where, missing[0])} is missing")
    found = {name: _typed(hints[name], one, _inside(where, name)) for name, one in value.items()}
    return cls(**found)


@cache
def _schema(cls: type) -> tuple[dict[str, Any], frozenset[str]]:
    """Returns the hints of a class's fields, and which of them have to be there."""
    hints = get_type_hints(cls, include_extras=True)
    if not is_dataclass(cls):
        return hints, frozenset(getattr(cls, "__required_keys__", ()))
    needed = [one.name for one in fields(cls) if one.default is MISSING and one.default_factory is MISSING]
    return hints, frozenset(needed)


def _dict(hints: tuple[Any, ...], value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(where, value, "an object")
    return {_typed(hints[0], key, where): _typed(hints[1], one, _inside(where, key)) for key, one in value.items()}


def _list(hints: tuple[Any, ...], value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong(where, value, "a list")
    return [_typed(hints[0], one, f"{where}[{number}]") for number, one in enumerate(value)]


def _tuple(hints: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list) or len(value) != len(hints):
        raise _wrong(where, value, f"a list of {len(hints)}")
    return tuple(
        _typed(hint, one, f"{where}[{number}]") for number, (hint, one) in enumerate(zip(hints, value, strict=True))
    )


COLLECTIONS: dict[Any, Callable[[tuple[Any, ...], Any, str], Any]] = {dict: _dict, list: _list, tuple: _tuple}


def _inside(where: str, name: str) -> str:
    text = name if re.fullmatch(r"[\w.\-\[\] ]{1,80}", name) else ascii(name)[:LONGEST_SHOWN]
    return f"{where}.{text}" if where else text


def _wrong(where: str, value: Any, needed: str) -> SchemaError:
    shown = ascii(value) if isinstance(value, (int, float, str, bool, type(None))) else f"a {type(value).__name__}"
    cut = shown if len(shown) <= LONGEST_SHOWN else shown[:LONGEST_SHOWN] + "…"
    return SchemaError(f"{where or 'the value'} is {cut}, needed is {needed}")
