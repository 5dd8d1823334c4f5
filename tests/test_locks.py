"""Locks of `locks/`: each version has hashes, lies in pyproject's range, is in the bill of materials and licences."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomllib
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.conftest import ROOT

LOCKS = ROOT / "locks"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ENTRY = re.compile(
    r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;]+)(?: ; (?P<marker>.*?))? \\\n"
    r"(?P<hashes>(?: +--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)",
    re.MULTILINE,
)
PERMISSIVE = {
    *("MIT", "MIT License", "MIT-CMU", "BSD-2-Clause", "BSD-3-Clause", "3-Clause BSD License", "0BSD", "Zlib"),
    *("Apache-2.0", "Apache Software License", "CC0-1.0", "PSF-2.0"),
}
SYSTEMS = [("linux", "x86_64"), ("linux", "aarch64"), ("win32", "AMD64"), ("darwin", "arm64")]


def locked(name: str) -> dict[str, tuple[Version, str]]:
    """Versions and markers of a lock by package."""
    text = (LOCKS / name).read_text()
    found = list(ENTRY.finditer(text))
    assert "".join(one[0] for one in found) == text  # nothing without a hash, no address
    return {canonicalize_name(one["name"]): (Version(one["version"]), one["marker"] or "") for one in found}


def wanted(extras: list[str]) -> list[Requirement]:
    """What pyproject.toml asks for, extras of its own taken apart."""
    texts = list(PROJECT["dependencies"])
    for extra in extras:
        texts += PROJECT["optional-dependencies"][extra]
    requirements = [Requirement(text) for text in texts]
    own = [extra for one in requirements if one.name == PROJECT["name"] for extra in one.extras]
    return [one for one in requirements if one.name != PROJECT["name"]] + (wanted(own) if own else [])


@pytest.mark.parametrize(
    ("name", "python", "extras"),
    [
        ("device.txt", "3.11", []),
        ("device-3.10.txt", "3.10", []),
        ("serve.txt", "3.11", ["serve"]),
        ("setup.txt", "3.11", ["dev"]),
    ],
)
def test_locks_lie_in_the_ranges(name, python, extras):
    versions = locked(name)
    for system, machine in SYSTEMS[: 1 if name in ("setup.txt", "device-3.10.txt") else None]:
        environment = default_environment() | {
            "python_version": python, "python_full_version": python + ".9", "sys_platform": system,
            "platform_machine": machine, "extra": "",
        }  # fmt: skip
        for requirement in wanted(extras):
            if requirement.name == "torch" or (requirement.marker and not requirement.marker.evaluate(environment)):
                continue  # PyTorch's builds differ from machine to machine: it is installed first
            version, _ = versions[canonicalize_name(requirement.name)]
            assert version in requirement.specifier, f"{requirement} in {name} for {system}"


def test_the_set_up_is_the_one_that_ci_runs():
    versions = locked("setup.txt")
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        name, _, version = line.partition("==")
        if version and name != "torch" and (found := versions.get(canonicalize_name(name))):
            assert found[0] == Version(version), name


def test_the_bill_of_materials_is_the_locks():
    components = json.loads((LOCKS / "sbom.json").read_text())["components"]
    found = {canonicalize_name(one["name"]): Version(one["version"]) for one in components}
    here = {name: version for name, (version, marker) in locked("serve.txt").items() if not marker or name in found}
    assert found == here
    assert all(one.get("purl", "").startswith("pkg:pypi/") for one in components)


def test_licences_are_permissive():
    rows = re.findall(r"^\| (\S+) +\| (.+?) +\|$", (LOCKS / "licences.md").read_text(), re.M)[1:]
    components = json.loads((LOCKS / "sbom.json").read_text())["components"]
    assert {canonicalize_name(name) for name, _ in rows} == {canonicalize_name(one["name"]) for one in components}
    for name, licence in rows:
        assert set(re.split(r" AND | OR |; ", licence)) <= PERMISSIVE, f"{name}: {licence}"


def _programs(python: str) -> Iterator[str]:
    if found := shutil.which(f"python{python}"):
        yield found  # which may be pyenv's, and refuse
    yield from map(str, Path(sys.base_prefix).parent.glob(f"{python}.*/bin/python3"))


def _runs(program: str) -> bool:
    return not subprocess.run([program, "-c", "import ensurepip"], capture_output=True).returncode


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "python"),
    [("device-3.10.txt", "3.10"), ("device.txt", "3.11"), ("device.txt", "3.12"), ("device.txt", "3.13")],
)
def test_a_device_installs_from_its_lock_and_answers(demo_fp32, tmp_path, name, python):
    """Python 3.10 to 3.13. Public: open-jarvis/OpenJarvis issue 917, microsoft/onnxruntime issue 24380."""
    program = next(filter(_runs, _programs(python)), None)
    if program is None:
        pytest.skip(f"there is no Python {python} here")
    subprocess.run([program, "-m", "venv", tmp_path / "venv"], check=True)
    installed = str(tmp_path / "venv" / "bin" / "python")
    pip = [installed, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--require-hashes", "--requirement", LOCKS / name], check=True)
    subprocess.run([*pip, "--no-deps", ROOT], check=True)
    words = ["--engine", demo_fp32, "--image", ROOT / "assets" / "shapes.png", "--prompt", "What color is the circle?"]
    done = subprocess.run(
        [installed, "-m", "mobilevlm.runtime.chat", *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "The circle is red.\n"), done.stderr
