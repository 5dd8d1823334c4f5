"""Messages name commands that the reader has: `commands.command` and `commands.localized`, read from the source.

A clone has `python export/build_engines.py`, where installed it is `mobilevlm-build-engines`. Docstrings may show the
form of a clone: those that are printed are descriptions of command lines, which `commands.run_command` localises.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mobilevlm.commands import CONSOLE_SCRIPTS
from tests.conftest import ROOT
from tests.test_layering import sources

SCRIPT = re.compile(r"\bpython3? (?P<script>(?:\w+/)+\w+\.py)\b")
CLONE_ONLY = re.compile(r"\bbash (?:run\.sh|jetson/setup\.sh)\b")
IN_A_CLONE = "in a clone"  # said beside a command that only a clone has
LOCALIZERS = ("command", "localized")


def texts(tree: ast.Module) -> Iterator[tuple[int, str, bool]]:
    """Yields every string but docstrings and arguments of `LOCALIZERS`: line, text, and whether it says `IN_A_CLONE`.

    A replacement field in an f-string is `{}` in the text, and a string of its own.
    """
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
        and isinstance(node.body[0].value, ast.Constant)
    }

    def walk(node: ast.AST) -> Iterator[tuple[int, str, bool]]:
        if id(node) in docstrings:
            return
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in LOCALIZERS:
            for argument in [*node.args, *(one.value for one in node.keywords)]:
                if not isinstance(argument, ast.Constant | ast.JoinedStr):
                    yield from walk(argument)
            return
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value, IN_A_CLONE in node.value
        elif isinstance(node, ast.JoinedStr):
            parts = [one.value if isinstance(one, ast.Constant) else "{}" for one in node.values]
            yield node.lineno, "".join(map(str, parts)), IN_A_CLONE in ast.unparse(node)
            for one in node.values:
                if isinstance(one, ast.FormattedValue):
                    yield from walk(one.value)
        else:
            for child in ast.iter_child_nodes(node):
                yield from walk(child)

    return walk(tree)


def problems(text: str, said: bool) -> Iterator[str]:
    """Yields the commands in a text that an installed user does not have; `said` is whether it says `IN_A_CLONE`."""
    for match in SCRIPT.finditer(text):
        if match["script"] in CONSOLE_SCRIPTS or not said:
            yield match[0]
    if not said:
        yield from (match[0] for match in CLONE_ONLY.finditer(text))


def survey(root: Path) -> Iterator[tuple[str, int, str]]:
    """Yields file, line and command of every problem in the project."""
    for _, path in sources(root):
        for line, text, said in texts(ast.parse(path.read_text())):
            yield from ((str(path.relative_to(root)), line, command) for command in problems(text, said))


def test_messages_name_commands_that_the_reader_has():
    found = [f"{file}:{line}: {command}" for file, line, command in survey(ROOT)]
    assert not found, "through commands.command or commands.localized:\n" + "\n".join(found)


GOOD = {
    "docstring": '"""Shows.\n\n    python runtime/chat.py --engine DIR\n"""',
    "function's docstring": 'def f():\n    """python runtime/chat.py"""',
    "command": "print(f\"make it with {command('engines/compile.py', directory)}\")",
    "localized": 'print(localized("python runtime/chat.py"), commands.localized(f"python runtime/chat.py {x}"))',
    "in a clone": 'print("pip install mobilevlm (in a clone: bash run.sh demo)")',
    "in a clone, said to some": "x = f\"bash jetson/setup.sh{'' if is_clone() else ' in a clone'}\"",
    "a script's name": 'print("written by runtime/verify.py")',
}
BAD = {
    "text": 'print("run python runtime/chat.py")',
    "f-string": 'raise UserError(f"{x} is old: python export/build_engines.py --model {x}")',
    "over two lines": 'print("use "\n      f"python engines/judge.py {x}")',
    "in what is filled in": "print(f\"{x or 'python runtime/chat.py'}\")",
    "inside a call of command": 'print(command("runtime/chat.py", x or "python runtime/chat.py"))',
    "constant": 'REMEDY = {"a": "sudo .venv/bin/python jetson/extlinux.py cma=1M"}',
    "has a console script": 'print("in a clone: python runtime/chat.py")',
    "has none": 'print("python train/demo/judge.py")',
    "run.sh": 'print("bash run.sh demo")',
    "setup": 'print("run `bash jetson/setup.sh`")',
}


@pytest.mark.parametrize("name", GOOD)
def test_good_messages(name):
    assert not [command for _, *text in texts(ast.parse(GOOD[name])) for command in problems(*text)]


@pytest.mark.parametrize("name", BAD)
def test_each_rule_can_fail(name):
    assert len([command for _, *text in texts(ast.parse(BAD[name])) for command in problems(*text)]) == 1
