"""Which names TensorRT's Python module has in which version; `names.json` is made by `real_names.py`."""

from __future__ import annotations

import enum
import json
from functools import cache
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("names.json")


@cache
def tables() -> dict[str, Any]:
    """`names.json`."""
    return json.loads(TABLE.read_text())


def number(version: str) -> tuple[int, int]:
    """The part of a version that names depend on."""
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def has(span: str, version: str) -> bool:
    """Whether a version lies in `10.3+`, `10.3..10.16` or `10.16`; newer ones are taken to be like the newest known."""
    here = number(version)
    if span.endswith("+"):
        return number(span[:-1]) <= here
    first, _, last = span.partition("..")
    return number(first) <= here <= number(last or first)


class Named:
    """An object of a class whose attributes depend on the version; those that begin with `_` are the double's own."""

    _version = ""

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_"):
            _require(object.__getattribute__(self, "_version"), type(self), name)
        return object.__getattribute__(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            _require(self._version, type(self), name)
            if not hasattr(type(self), name):
                raise NotImplementedError(f"the double knows no {type(self).__name__}.{name}")
        object.__setattr__(self, name, value)


def _require(version: str, kind: type, name: str) -> None:
    for base in kind.__mro__:
        span = tables()["classes"].get(base.__name__, {}).get(name)
        if span is not None and has(span, version):
            return
    raise AttributeError(f"{kind.__name__!r} object of TensorRT {version} has no attribute {name!r}")


def of_version(kind: type, version: str) -> type:
    """The class as a version has it."""
    return type(kind.__name__, (kind,), {"_version": version, "__module__": "tensorrt"})


def enumeration(name: str, version: str, members: dict[str, dict[str, int]]) -> Any:
    """An enumeration with the members that a version has; `int` gives a value, which moves between versions."""
    body = enum.EnumMeta.__prepare__(name, (enum.Enum,))
    for member, values in members.items():
        for span, value in values.items():
            if has(span, version):
                body[member] = value
    body["__int__"] = lambda self: self.value
    body["__module__"] = "tensorrt"
    return enum.EnumMeta(name, (enum.Enum,), body)
