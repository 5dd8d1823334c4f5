"""Nothing in runtime/ and eval/ reaches for another object's private names."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

FOLDERS = ("runtime", "eval")
OWN = ("self", "cls")


def private_accesses(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of every `x._y` whose x is not the object itself or its class, and of every import of a `_y`.

    `x.__y__` is Python's own.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names if alias.name.startswith("_") and alias.name[-2:] != "__"]
            yield from ((node.lineno, f"import {name}") for name in names)
        if not isinstance(node, ast.Attribute) or not node.attr.startswith("_") or node.attr.endswith("__"):
            continue
        if isinstance(node.value, ast.Name) and node.value.id in OWN:
            continue
        yield node.lineno, ast.unparse(node)


def sources() -> list[Path]:
    return [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def test_private_names_stay_private():
    assert len(sources()) > 60
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path in sources()
        for line, text in private_accesses(ast.parse(path.read_text()))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("session._runner", ["session._runner"]),
        ("self.session._runner.decode(1)", ["self.session._runner"]),
        ("def f(self, other):\n    return other._handle", ["other._handle"]),
        ("from .session import _opened, Session", ["import _opened"]),
        ("made()._x = 1", ["made()._x"]),
        ("self._x = cls._y = 1", []),
        ("type(x).__name__", []),
    ],
)
def test_it_can_fail(text, found):
    assert [one for _, one in private_accesses(ast.parse(text))] == found
