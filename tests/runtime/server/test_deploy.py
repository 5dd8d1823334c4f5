"""The systemd unit and the compose file: their commands parse, and the tools that read them accept them."""

from __future__ import annotations

import configparser
import shlex
import shutil
import subprocess

import pytest
import yaml

from mobilevlm.commands import CONSOLE_SCRIPTS
from mobilevlm.runtime.serve import parser
from tests.conftest import ROOT

DEPLOY = ROOT / "runtime" / "server" / "deploy"
UNIT, COMPOSE = DEPLOY / "mobilevlm.service", DEPLOY / "compose.yaml"


def test_the_unit_runs_our_command():
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(UNIT)
    words = shlex.split(unit["Service"]["ExecStart"])
    assert words[0].rsplit("/", 1)[-1] == CONSOLE_SCRIPTS["runtime/serve.py"]
    options = parser().parse_args(words[1:])
    assert options.api_key_file == "%d/keys" and unit["Service"]["LoadCredential"].startswith("keys:")


def test_systemd_accepts_the_unit(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd is not installed")
    program = tmp_path / "mobilevlm-serve"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/mobilevlm/bin/mobilevlm-serve", str(program)))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_compose_file_runs_our_command():
    service = yaml.safe_load(COMPOSE.read_text())["services"]["mobilevlm"]
    assert CONSOLE_SCRIPTS["runtime/serve.py"] in service["build"]["dockerfile_inline"]
    options = parser().parse_args(service["command"])
    assert str(options.port) == service["ports"][0].split(":")[1]
    assert options.api_key_file.rsplit("/", 1)[-1] == service["secrets"][0]
    assert options.engine == [service["volumes"][0].split(":")[1]]
