"""Who may import whom, read from the source with `ast`; the rules are data, and each is shown to be able to fail."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

FOLDERS = ("mobilevlm", "engines", "export", "runtime", "train", "eval", "jetson")
# What a folder may import of this project, besides itself. `mobilevlm` alone means all of its modules.
DEVICE_MODULES = {
    f"mobilevlm.{name}" for name in ("config", "errors", "commands", "image", "prompt", "templates", "tokenizer")
}
DEVICE_MODULES |= {"mobilevlm.tokenizer_files"}
ALLOWED = {
    "mobilevlm": set(),
    "engines": {"mobilevlm.config", "mobilevlm.errors"},
    "export": {"engines", "mobilevlm"},
    "runtime": {"engines"} | DEVICE_MODULES,
    "train": {"mobilevlm"},
    "eval": {"runtime", "engines", "mobilevlm"},
    "jetson": {"runtime", "engines", "mobilevlm.errors", "mobilevlm.commands"},
}
TORCH_FREE_FOLDERS = ("engines", "runtime", "jetson")
HEAVY = {"torch", "transformers", "accelerate", "onnx", "tqdm", "huggingface_hub", "peft", "safetensors.torch"}
LONGEST_FILE = 310
SCRIPT_FIX = "if not __package__:"


def module_name(path: Path, root: Path) -> str:
    """`engines/bundle.py` is `mobilevlm.engines.bundle`."""
    parts = path.relative_to(root).with_suffix("").parts
    parts = parts if parts[0] == "mobilevlm" else ("mobilevlm", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, root: Path) -> Iterator[tuple[int, str, int]]:
    """Line, absolute name and level of every import, also those inside functions."""
    package = module_name(path, root).split(".")
    package = package if path.name == "__init__.py" else package[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *(node.module.split(".") if node.module else [])])
            # `from . import x` names modules; `from .x import y` names a module and something in it.
            yield from ((node.lineno, name if node.module else f"{name}.{a.name}", node.level) for a in node.names)


def folder_of(name: str) -> str | None:
    """The folder a module of this project lies in; None for others."""
    parts = name.split(".")
    if parts[0] != "mobilevlm":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in FOLDERS[1:] else "mobilevlm"


def sources(root: Path) -> Iterator[tuple[str, Path]]:
    for folder in FOLDERS:
        yield from ((folder, path) for path in sorted((root / folder).rglob("*.py")))


def problems(root: Path) -> Iterator[str]:
    """Every broken rule, as file:line and what is wrong."""
    for folder, path in sources(root):
        text = path.read_text()
        where = path.relative_to(root)
        is_script = '__name__ == "__main__"' in text
        if len(text.splitlines()) > LONGEST_FILE:
            yield f"{where}: more than {LONGEST_FILE} lines"
        if is_script and folder != "mobilevlm" and SCRIPT_FIX not in text:
            yield f"{where}: an entry script lacks the sys.path fix"
        torch_free = folder in TORCH_FREE_FOLDERS or module_name(path, root) in DEVICE_MODULES
        for line, name, level in imports(path, root):
            if name.split(".")[0] in FOLDERS[1:]:
                yield f"{where}:{line}: {name} is imported by its bare name"
            if torch_free and (name.split(".")[0] in HEAVY or name in HEAVY):
                yield f"{where}:{line}: {name} in the torch-free part"
            target = folder_of(name)
            if target == folder and level == 0 and not is_script and name != "mobilevlm":
                yield f"{where}:{line}: {name} should be a relative import"
            if target not in (None, folder) and level:
                yield f"{where}:{line}: {name} should be imported as mobilevlm.<folder>"
            if target not in (None, folder) and not allowed(folder, target, name):
                yield f"{where}:{line}: {folder} may not import {name}"


def allowed(folder: str, target: str, name: str) -> bool:
    rules = ALLOWED[folder]
    if target in rules or name == "mobilevlm":  # the package itself: its version
        return True
    return target == "mobilevlm" and any(name == rule or name.startswith(f"{rule}.") for rule in rules)


def test_the_layers_hold():
    assert list(problems(ROOT)) == []


def test_every_folder_with_code_is_in_the_wheel():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    with_code = {module_name(path.parent / "__init__.py", ROOT) for _, path in sources(ROOT)}
    assert with_code == set(settings["packages"])
    mapped = {f"mobilevlm.{folder}": folder for folder in FOLDERS[1:] if (ROOT / folder).is_dir()}
    assert settings["package-dir"] == {"mobilevlm": "mobilevlm"} | mapped


BREAKS = {
    "bare name": ("export/a.py", "import engines.bundle", "imported by its bare name"),
    "sideways": ("export/a.py", "from mobilevlm.runtime import session", "export may not import mobilevlm.runtime"),
    "upwards": ("mobilevlm/a.py", "def f():\n    from mobilevlm.export import plan", "mobilevlm may not import"),
    "dots across": ("runtime/a.py", "from ..engines import bundle", "should be imported as mobilevlm.<folder>"),
    "not for the device": ("runtime/a.py", "from mobilevlm.model import MobileVLM", "runtime may not import"),
    "torch on the device": ("engines/a.py", "def f():\n    import torch.nn", "torch.nn in the torch-free part"),
    "torch in image": ("mobilevlm/image.py", "from transformers import X", "transformers in the torch-free part"),
    "absolute inside": ("export/a.py", "from mobilevlm.export import plan", "should be a relative import"),
    "script": ("runtime/a.py", 'if __name__ == "__main__":\n    pass', "lacks the sys.path fix"),
    "long": ("train/a.py", "\n" * (LONGEST_FILE + 1), "more than"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_each_rule_can_fail(name, tmp_path):
    file, text, message = BREAKS[name]
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(text)
    found = list(problems(tmp_path))
    assert any(message in problem and problem.startswith(file) for problem in found), found
