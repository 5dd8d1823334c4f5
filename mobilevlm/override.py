"""`typing.override`, which Python has from 3.12 on, for all versions: it is checked by mypy and does nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from typing_extensions import override
else:
    Method = TypeVar("Method")

    def override(method: Method) -> Method:
        """Marks a method that implements or replaces one of a base class, whose docstring is the contract."""
        return method


__all__ = ["override"]
