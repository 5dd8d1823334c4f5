"""Docstrings as contracts: Args from two parameters on, and every parameter in them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.import_graph import sources

LEAST_SHARE = 0.95  # of functions with two parameters or more


def documented(tree: ast.Module) -> Iterator[tuple[str, int, list[str], str]]:
    """Name, line, parameters and docstring of every public function and method; a class stands for its `__init__`."""

    def walk(nodes: list[ast.stmt], owner: ast.ClassDef | None) -> Iterator[tuple[str, int, list[str], str]]:
        for node in nodes:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield from walk(node.body, node)
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            is_init = owner is not None and node.name == "__init__"
            if node.name.startswith("_") and not is_init:
                continue
            if any(ast.unparse(mark).split(".")[-1] in ("overload", "override") for mark in node.decorator_list):
                continue
            every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            names = [one.arg for one in every if one.arg not in ("self", "cls") and not one.arg.startswith("_")]
            text = ast.get_docstring(node) or ""
            if is_init:
                text = f"{ast.get_docstring(owner) or ''}\n{text}"
            yield f"{owner.name}.{node.name}" if owner else node.name, node.lineno, names, text

    return walk(tree.body, None)


def args_of(text: str) -> list[str]:
    """Parameters that an Args section names; `a, b: both` names two."""
    found = re.search(r"^ *Args:\n((?: *\n| +.*\n?)+)", text, re.MULTILINE)
    if not found:
        return []
    entries = [line for line in found[1].splitlines() if line.strip()]
    indent = len(entries[0]) - len(entries[0].lstrip())
    named = (re.match(rf" {{{indent}}}([\w*][\w*, ]*):", line) for line in entries)
    return [name.strip(" *") for one in named if one for name in one[1].split(",")]


def survey(root: Path) -> tuple[int, list[str]]:
    """How many functions have two parameters or more, and those of them without complete Args."""
    count, lacking = 0, []
    for _, path in sources(root):
        for name, line, parameters, text in documented(ast.parse(path.read_text())):
            if len(parameters) < 2:
                continue
            count += 1
            if missing := set(parameters) - set(args_of(text)):
                lacking.append(f"{path.relative_to(root)}:{line}: {name} lacks {', '.join(sorted(missing))}")
    return count, lacking


def test_functions_with_two_parameters_have_args():
    count, lacking = survey(ROOT)
    assert count > 500
    assert 1 - len(lacking) / count >= LEAST_SHARE, "\n".join(lacking)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('"""Adds."""', []),
        ('"""Adds.\n\n    Args:\n        a: one.\n    """', ["a"]),
        (
            '"""Adds.\n\n    Args:\n        a, b: two\n            lines.\n\n    Returns:\n        c: no.\n    """',
            ["a", "b"],
        ),
    ],
)
def test_args_are_read(text, names):
    ((_, _, parameters, doc),) = documented(ast.parse(f"def add(a, b):\n    {text}\n"))
    assert (parameters, args_of(doc)) == (["a", "b"], names)
