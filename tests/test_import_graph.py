"""No import circle, in any folder or between folders, and the picture in docs/architecture.md is the present one."""

from __future__ import annotations

import pytest

from tests.conftest import ROOT
from tests.import_graph import PAGE, circles, import_graph, necessary, own_rooms, replaced


@pytest.fixture(scope="module")
def graph():
    return import_graph(ROOT)


def test_no_file_is_in_a_circle(graph):
    assert circles(graph) == []


def test_no_room_is_in_a_circle(graph):
    assert {folder: found for folder, one in own_rooms(graph).items() if (found := circles(one))} == {}


def test_the_picture_is_current(graph):
    assert PAGE.read_text() == replaced(PAGE.read_text(), graph), "python -m tests.import_graph --write"


@pytest.mark.parametrize(
    "importing",
    [
        "from .b import x",
        "from . import b",
        "def f():\n    from .b import x",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .b import x",
        "from importlib import import_module\nimport_module('mobilevlm.engines.b')",
    ],
)
def test_a_circle_is_found(tmp_path, importing):
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines" / "a.py").write_text(importing)
    (tmp_path / "engines" / "b.py").write_text("from mobilevlm.engines.a import y")
    assert circles(import_graph(tmp_path)) == [["mobilevlm.engines.a", "mobilevlm.engines.b"]]


def test_a_circle_of_folders_is_found(tmp_path):
    for name, text in {"x/a": "from ..y.b import b", "y/c": "from ..x.d import d", "y/b": "", "x/d": ""}.items():
        path = tmp_path / "export" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    graph = import_graph(tmp_path)
    assert circles(graph) == []
    assert circles(own_rooms(graph)["mobilevlm.export"]) == [["x", "y"]]


def test_implied_arrows_are_not_drawn():
    assert necessary({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {"a": {"b"}, "b": {"c"}, "c": set()}
