"""The wheel as a device installs it: only `mobilevlm`, its commands, a chat on Python 3.10 without PyTorch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mobilevlm.commands import CONSOLE_SCRIPTS
from tests.conftest import BENCHMARK, BUILD, CHAT, ROOT, run

JETSON_COMMANDS = ("benchmark", "compare", "doctor", "limits")
NOT_FOR_HELP = ("torch", "transformers", "accelerate", "peft", "onnx", "matplotlib", "openpyxl")


def call(*words: str | Path, **options) -> subprocess.CompletedProcess[str]:
    # A PYTHONPATH of the person's would show pip this clone as installed already.
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=600, env=clean, **options)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy of the files git knows, so that nothing is left in the tree."""
    copy = tmp_path_factory.mktemp("source")
    listed = call("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).stdout.splitlines()
    for name in listed:
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
    call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", copy / "dist", copy)
    return next((copy / "dist").glob("*.whl"))


def clean_environment(python: Path | str, place: Path) -> Path:
    call(python, "-m", "venv", place)
    return place / "bin"


def test_only_mobilevlm_lands_in_site_packages(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"mobilevlm"}
    assert len({name.split("/")[0] for name in names}) == 2  # the package and its metadata
    for part in (
        "py.typed",
        "export/split/small_tokenizer.model",
        "export/phone/run.sh",
        "runtime/tensorrt/polygraphy.sh",
        "runtime/chat.py",
        "export/lowerings/ort.py",
        "model/projectors/ldpnet.py",
    ):
        assert f"mobilevlm/{part}" in names


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """Folder of the console scripts of an install that sees this environment's packages, but not `NOT_FOR_HELP`."""
    place = tmp_path_factory.mktemp("installed") / "venv"
    bin_dir = clean_environment(sys.executable, place)
    call(bin_dir / "python", "-m", "pip", "install", "-q", "--no-deps", wheel)
    site = next(place.glob("lib/python*/site-packages"))
    import numpy

    block = f"import sys; sys.modules.update(dict.fromkeys({NOT_FOR_HELP}))"
    (site / "dependencies.pth").write_text(f"{Path(numpy.__file__).parents[1]}\n{block}\n")
    return bin_dir


def test_every_script_has_its_command(installed):
    made = {path.name for path in installed.glob("mobilevlm-*")}
    assert made == set(CONSOLE_SCRIPTS.values())


@pytest.mark.parametrize("script", CONSOLE_SCRIPTS)
def test_every_command_has_help(installed, script, tmp_path):
    """Also where what does the work is not installed; its examples are commands that an install has.

    Public: NVlabs/VILA issue 56.
    """
    name = CONSOLE_SCRIPTS[script]
    help_text = call(installed / name, "--help", cwd=tmp_path).stdout
    assert help_text.startswith(f"usage: {name} ")
    assert f"python {script}" not in help_text


def test_the_commands_run_from_anywhere(installed, tmp_path):
    """--help of each needs none of the dependencies but Pillow, numpy and SentencePiece.

    Public: haotian-liu/LLaVA pull request 1584.
    """
    bin_dir, site = installed, next(installed.parent.glob("lib/python*/site-packages"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    help_text = call(bin_dir / "mobilevlm-build-engines", "--help", cwd=elsewhere).stdout
    assert "mobilevlm-build-engines --model" in help_text and "python export/" not in help_text
    assert "--target" in help_text and "--random-weights" in help_text
    assert "--engine" in call(bin_dir / "mobilevlm-chat", "--help", cwd=elsewhere).stdout
    assert "--compare" in call(bin_dir / "mobilevlm-benchmark", "--help", cwd=elsewhere).stdout
    assert "--engine" in call(bin_dir / "mobilevlm-phone-kit", "--help", cwd=elsewhere).stdout
    assert "--across" in call(bin_dir / "mobilevlm-jetson-compare", "--help", cwd=elsewhere).stdout
    assert "--board" in call(bin_dir / "mobilevlm-jetson-benchmark", "--help", cwd=elsewhere).stdout
    assert "--apply" in call(bin_dir / "mobilevlm-jetson-doctor", "--help", cwd=elsewhere).stdout
    assert "agx-orin-64" in call(bin_dir / "mobilevlm-jetson-limits", cwd=elsewhere).stdout
    code = "import mobilevlm, mobilevlm.engines, mobilevlm.runtime as r; print(r.__file__)"
    where = call(bin_dir / "python", "-c", code, cwd=elsewhere).stdout
    assert Path(where.strip()).is_relative_to(site)


@pytest.mark.parametrize(
    "script", [BENCHMARK, BUILD, CHAT, *(ROOT / "jetson" / f"{name}.py" for name in JETSON_COMMANDS)]
)
def test_scripts_of_a_clone_run_from_anywhere(script, tmp_path):
    assert "usage:" in run(script, "--help", cwd=tmp_path).stdout


def python_310() -> str | None:
    """A Python 3.10 that starts (a pyenv shim may exist without one)."""
    candidates = [shutil.which("python3.10"), *map(str, Path.home().glob(".pyenv/versions/3.10*/bin/python3.10"))]
    for python in filter(None, candidates):
        if subprocess.run([python, "-c", "import ensurepip"], capture_output=True).returncode == 0:
            return python
    return None


def test_a_device_on_python_310_answers_alike(wheel, bundle, tmp_path):
    """The oldest Python of a board, its newest ONNX Runtime, no PyTorch: the wheel and its own dependencies only."""
    python = python_310()
    if python is None:
        pytest.skip("no Python 3.10 on this machine")
    bin_dir = clean_environment(python, tmp_path / "device")
    call(bin_dir / "python", "-m", "pip", "install", "-q", wheel)
    absent = call(bin_dir / "python", "-m", "pip", "list").stdout
    assert "torch" not in absent and "transformers" not in absent
    for name in JETSON_COMMANDS:  # boards have this Python
        assert "usage:" in call(bin_dir / f"mobilevlm-jetson-{name}", "--help", cwd=tmp_path).stdout
    options = ["--image", ROOT / "assets" / "table.jpg", "--prompt", "What is it?", "--max-new-tokens", "12"]
    there = call(bin_dir / "mobilevlm-chat", "--engine", bundle, *options, cwd=tmp_path)
    here = run(CHAT, "--engine", bundle, *options)
    assert there.stdout == here.stdout != ""
