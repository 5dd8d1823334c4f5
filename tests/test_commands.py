"""Command lines in messages: the form that the reader has, a script of a clone or a console script."""

from __future__ import annotations

import pytest

from mobilevlm import commands
from mobilevlm.commands import CONSOLE_SCRIPTS, command, localized
from tests.conftest import ROOT


def test_console_scripts_are_those_that_pip_installs():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")
    installed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert installed == {
        name: f"mobilevlm.{script.removesuffix('.py').replace('/', '.')}:main"
        for script, name in CONSOLE_SCRIPTS.items()
    }
    assert all((ROOT / script).is_file() for script in CONSOLE_SCRIPTS)


def test_a_clone_has_scripts_and_an_install_has_commands(monkeypatch):
    words = "runtime/chat.py", "--engine", "a folder"
    recorded = "python export/build_engines.py --model DIR --target host"
    assert command(*words) == "python runtime/chat.py --engine 'a folder'"
    assert localized(recorded) == recorded
    monkeypatch.setattr(commands, "is_clone", lambda: False)
    assert command(*words) == "mobilevlm-chat --engine 'a folder'"
    assert localized(recorded) == "mobilevlm-build-engines --model DIR --target host"
    assert localized("python other/script.py") == "python other/script.py"
