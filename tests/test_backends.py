"""A backend is one folder and one object: every folder keeps the contract, and nothing asks for a backend's name."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from mobilevlm.engines.targets import TARGETS
from mobilevlm.export import build_engines
from mobilevlm.export.backends.backend import Backend, backend_of, backends
from tests.conftest import ROOT

BACKENDS = tuple(dict.fromkeys(target.backend for target in TARGETS.values()))
# Folders whose code asks a backend instead of comparing its name, and the files that look one up by it.
CLEAN_FOLDERS = ("mobilevlm", "engines", "export", "runtime", "eval", "jetson", "train")
LOOK_UPS = {"engines/tensorrt/require.py", "engines/targets.py"}


def comparisons(path: Path) -> list[int]:
    """Lines on which an attribute called `backend` is compared, looked up in a literal, or matched."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Compare):
            asked = [node.left, *node.comparators]
        elif isinstance(node, ast.Match):
            asked = [node.subject]
        elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Dict | ast.Name):
            asked = [node.slice]
        else:
            continue
        if any(isinstance(one, ast.Attribute) and one.attr == "backend" for one in asked):
            found.append(node.lineno)
    return found


def problems(root: Path) -> list[str]:
    """Every place in the clean folders that asks for a backend's name."""
    files = [path for folder in CLEAN_FOLDERS for path in sorted((root / folder).rglob("*.py"))]
    names = {path: path.relative_to(root).as_posix() for path in files}
    return [f"{name}:{line}" for path, name in names.items() if name not in LOOK_UPS for line in comparisons(path)]


def test_nothing_compares_a_backends_name():
    assert problems(ROOT) == []


@pytest.mark.parametrize(
    "text",
    [
        'if target.backend == "qnn": pass',
        'if "ort" != target.backend: pass',
        'if plan.stages.target.backend in ("ort", "qnn"): pass',
        "write = WRITERS[plan.target.backend]",
        'match target.backend:\n    case "ort": pass',
    ],
)
def test_a_comparison_is_found(text, tmp_path):
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "a.py").write_text(f"x = 1\n{text}\n")
    assert problems(tmp_path) == ["export/a.py:2"]


def test_every_folder_is_a_backend_of_some_target():
    folders = {path.parent.name for path in (ROOT / "export" / "backends").glob("*/__init__.py")}
    assert folders == set(BACKENDS)
    assert [type(one) for one in backends()] == [type(backend_of(target)) for target in first_targets()]


def first_targets():
    """A target of each backend."""
    return [next(target for target in TARGETS.values() if target.backend == name) for name in BACKENDS]


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_keeps_the_contract(name):
    """It has all methods, its own take what the contract's take, and it has no public ones beside them."""
    backend = import_module(f"mobilevlm.export.backends.{name}.backend").BACKEND
    assert Backend in type(backend).__mro__
    contract = {key: value for key, value in vars(Backend).items() if inspect.isfunction(value) and key[0] != "_"}
    own = {key: value for key, value in vars(type(backend)).items() if inspect.isfunction(value) and key[0] != "_"}
    assert set(own) <= set(contract)
    for key, method in own.items():
        assert list(inspect.signature(method).parameters) == list(inspect.signature(contract[key]).parameters), key


def test_a_command_line_needs_no_pytorch():
    """`--help` and what is refused work on a device's install: nothing heavy is imported for them."""
    program = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'onnx', 'tqdm'): sys.modules[name] = None\n"
        "from mobilevlm.export import build_engines, phone_kit\n"
        "build_engines.parser().format_help(), phone_kit.parser().format_help()\n"
        "build_engines.main()\n"
    )
    words = ["--model", "DIR", "--target", "host", "--blocks", "2"]
    done = subprocess.run([sys.executable, "-c", program, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "--blocks is for targets on TensorRT, and this is host" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--target", "host", "--judge"), "--judge is for targets on TensorRT, and this is host"),
        (
            ("--target", "snapdragon", "--no-compile", "--blocks", "2"),
            "--blocks is for targets on TensorRT, and this is",
        ),
        (("--target", "orin", "--no-compile"), "--soc and --no-compile are for --target snapdragon, and this is orin"),
        (
            ("--target", "snapdragon", "--no-compile", "--precision", "auto"),
            "--precision auto is for targets on TensorRT",
        ),
    ],
)
def test_options_of_another_backend_are_refused_by_whom_they_are_for(words, message):
    with pytest.raises(ValueError, match=message):
        build_engines.build(build_engines.parser().parse_args(["--model", "DIR", *words]))
