"""setup.sh with --dry-run on copied trees, the linters on it and on the Dockerfile."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mobilevlm.jetson.releases import STACKS
from tests.conftest import ROOT
from tests.jetson.trees import in_order, out_of_the_box, packages, write

SETUP, DOCKERFILE = ROOT / "jetson" / "setup.sh", ROOT / "jetson" / "Dockerfile"
BIN = Path(sys.executable).parent
BAD_DOCKERFILE = "FROM ubuntu:latest\nRUN apt-get install curl | tee log\n"


def setup(*words) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", SETUP, *map(str, words)], capture_output=True, text=True, timeout=60)


def commands(done) -> list[list[str]]:
    assert done.returncode == 0, done.stderr
    lines = [shlex.split(line[2:]) for line in done.stdout.splitlines() if line.startswith("+ ")]
    return [words[1:] if words[0] == "sudo" else words for words in lines]


def linter(name: str) -> str:
    found = shutil.which(name, path=str(BIN)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: pip install '.[dev]'")
    return found


@pytest.mark.parametrize(
    ("tree", "python", "cuda", "major"),
    [(out_of_the_box, "python3.10", "cuda-cudart-12-6", 36), (in_order, "python3.12", "cuda-cudart-13-2", 39)],
)
def test_a_bare_board(tree, python, cuda, major, tmp_path):
    """All the commands, in order, with what the doctor says belongs to the release."""
    root = tree(tmp_path / "root")
    packages(root)
    venv = tmp_path / "venv"
    update, install, make, pip, check, doctor = commands(setup("--dry-run", "--root", root, "--venv", venv))
    assert update == ["apt-get", "update"]
    assert install[:2] == ["apt-get", "install"] and install[-3:] == ["python3-libnvinfer", cuda, f"{python}-venv"]
    assert make == [python, "-m", "venv", "--system-site-packages", str(venv)]
    stack = STACKS[major]
    assert stack.cuda_bindings in pip and pip[-2:] == ["--editable", str(ROOT)]
    assert python == f"python{stack.python}" and cuda == f"cuda-cudart-{stack.cuda.replace('.', '-')}"
    assert check[0] == f"{venv}/bin/python" and "import tensorrt" in check[-1]
    assert doctor == [f"{venv}/bin/python", str(ROOT / "jetson" / "doctor.py")]
    assert not venv.exists()


def test_what_is_there_is_left_alone(tmp_path):
    root, venv = out_of_the_box(tmp_path / "root"), tmp_path / "venv"
    packages(root, python3_libnvinfer="10.3", cuda_cudart_12_6="12.6.68", **{"python3.10_venv": "3.10.12"})
    write(venv, "pyvenv.cfg", "home = /usr/bin\ninclude-system-site-packages = true")
    done = setup("--dry-run", "--root", root, "--venv", venv)
    assert not any("apt-get" in words or "venv" in words for words in commands(done))
    assert "apt packages: all there" in done.stdout and "there" in done.stdout


def test_a_removed_package_is_missing(tmp_path):
    root = out_of_the_box(tmp_path / "root")
    packages(root, cuda_cudart_12_6="12.6.68")
    status = root / "var/lib/dpkg/status"
    status.write_text(status.read_text() + "\nPackage: python3-libnvinfer\nStatus: deinstall ok config-files\n")
    _, install, *_ = commands(setup("--dry-run", "--root", root, "--venv", tmp_path / "venv"))
    assert install[-2:] == ["python3-libnvinfer", "python3.10-venv"]


def test_refusals(tmp_path):
    root = out_of_the_box(tmp_path / "root")
    write(tmp_path / "venv", "pyvenv.cfg", "include-system-site-packages = false")
    for words, message in [
        (["--root", root], "--root goes with --dry-run"),
        (["--fast"], "unknown option --fast"),
        (["--dry-run", "--root", tmp_path], f"no {tmp_path}/etc/nv_tegra_release"),
        (["--dry-run", "--root", root, "--venv", tmp_path / "venv"], "does not see the system's packages"),
    ]:
        done = setup(*words)
        assert done.returncode == 2 and message in done.stderr, done.stderr


@pytest.mark.parametrize("release", ["# R35 (release), REVISION: 6.2", "# R36 (release), REVISION: 3.0", "nothing"])
def test_other_releases(release, tmp_path):
    write(tmp_path, "etc/nv_tegra_release", release)
    done = setup("--dry-run", "--root", tmp_path)
    assert done.returncode == 2 and "flash JetPack 6.2" in done.stderr


def test_help():
    done = setup("--help")
    assert done.returncode == 0 and "bash jetson/setup.sh --dry-run" in done.stdout


def test_shellcheck(tmp_path):
    program = linter("shellcheck")
    done = subprocess.run([program, SETUP], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    (tmp_path / "bad.sh").write_text("#!/bin/bash\nrm $1/*\n")
    assert subprocess.run([program, tmp_path / "bad.sh"], capture_output=True).returncode == 1


def test_hadolint(tmp_path):
    program = linter("hadolint")
    done = subprocess.run([program, DOCKERFILE], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "", done.stdout
    (tmp_path / "Dockerfile").write_text(BAD_DOCKERFILE)
    found = subprocess.run([program, tmp_path / "Dockerfile"], capture_output=True, text=True).stdout
    assert "DL3007" in found and "DL4006" in found and "DL3008" in found


def test_the_image_holds_the_whole_project():
    """Every folder of the wheel is copied into it, and nothing that is not there."""
    copied = [line.split()[1:-1] for line in DOCKERFILE.read_text().splitlines() if line.startswith("COPY ")]
    names = {name for words in copied for name in words}
    assert all((ROOT / name).exists() for name in names)
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert set(settings["package-dir"].values()) <= names
