"""Who may import whom, read from the source with `ast`; the rules are data, and each is shown to be able to fail."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.import_graph import FOLDERS, imports, module_name, sources
from tests.long_files import LONG_FILES

# What a folder may import of this project, besides itself. `mobilevlm` alone means all of its modules.
DEVICE_MODULES = {f"mobilevlm.{name}" for name in ("atomic_file", "environment", "json_files", "refusals", "text_file")}
DEVICE_MODULES |= {f"mobilevlm.{name}" for name in ("leftovers", "stand_ins", "whole_directory")}
DEVICE_MODULES |= {f"mobilevlm.{name}" for name in ("errors", "commands", "image", "pages", "presets")}
DEVICE_MODULES |= {
    f"mobilevlm.text.{name}" for name in ("fast_tokenizer", "prompt", "templates", "tokenizer", "tokenizer_files")
}
DEVICE_MODULES |= {
    f"mobilevlm.text.{name}" for name in ("byte_level", "byte_level_files", "open_tokenizer", "utterances")
}
DEVICE_MODULES |= {f"mobilevlm.checkpoint.{name}" for name in ("config", "config_types", "vision_config")}
DEVICE_MODULES |= {f"mobilevlm.images.{path.stem}" for path in (ROOT / "mobilevlm" / "images").glob("[!_]*.py")}
# Their facts are for devices, their PyTorch modules are not: nothing heavy is imported but in functions.
PROJECTORS = "mobilevlm.model.projectors"
DEVICE_MODULES |= {PROJECTORS}
ALLOWED = {
    "mobilevlm": set(),
    "engines": {
        f"mobilevlm.{name}"
        for name in (
            *("atomic_file", "checkpoint.config", "commands", "errors", "leftovers", "pages", "refusals", "text_file"),
            "whole_directory",
        )
    },
    "export": {"engines", "mobilevlm"},
    "runtime": {"engines"} | DEVICE_MODULES,
    "train": {"mobilevlm"},
    "eval": {"runtime", "engines", "mobilevlm"},
    "jetson": {"runtime", "engines"} | DEVICE_MODULES,
}
TORCH_FREE_FOLDERS = ("engines", "runtime", "jetson")
HEAVY = {"torch", "transformers", "accelerate", "onnx", "tqdm", "huggingface_hub", "tokenizers", "peft"}
HEAVY |= {"safetensors.torch"}
ON_DEMAND = {"tokenizers"}  # for a device, too, but only where a model needs it: never when a module is imported
ANYONE_MAY = {"mobilevlm", "mobilevlm.__version__"}
LONGEST_FILE = 300
MAIN = "if __name__ == '__main__':"  # as ast.unparse writes it


def run_on_import(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """The nodes that run when the module is imported: no function bodies, nothing under `if TYPE_CHECKING`."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        yield node
        yield from run_on_import(list(ast.iter_child_nodes(node)))


def script_problems(path: Path, root: Path, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """An entry script mends sys.path before its first import of the project, and imports nothing relatively."""
    fixes = [n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "not __package__"]
    fixed = next((n.lineno for n in fixes if "sys.path[0] = " in ast.unparse(n)), None)
    if fixed is None:
        yield 1, "an entry script lacks the sys.path fix"
    for line, name, level in imports(path, root, ast.walk(tree)):
        if level:
            yield line, f"an entry script has no package, {name} must be imported absolutely"
        elif fixed is not None and line < fixed and name.split(".")[0] == "mobilevlm":
            yield line, f"{name} is imported before the sys.path fix"


def folder_of(name: str) -> str | None:
    """The folder a module of this project lies in; None for others."""
    parts = name.split(".")
    if parts[0] != "mobilevlm":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in FOLDERS[1:] else "mobilevlm"


def problems(root: Path) -> Iterator[str]:
    """Every broken rule, as file:line and what is wrong."""
    for folder, path in sources(root):
        text = path.read_text()
        tree = ast.parse(text)
        where = path.relative_to(root)
        is_script = folder != "mobilevlm" and any(ast.unparse(node).startswith(MAIN) for node in tree.body)
        if len(text.splitlines()) > LONGEST_FILE:
            yield f"{where}: more than {LONGEST_FILE} lines"
        if is_script:
            yield from (f"{where}:{line}: {wrong}" for line, wrong in script_problems(path, root, tree))
        if module_name(path, root) == "mobilevlm":
            for line, name, _ in imports(path, root, run_on_import(tree.body)):
                if name.split(".")[0] not in sys.stdlib_module_names and name not in DEVICE_MODULES:
                    yield f"{where}:{line}: {name} is loaded by a mere `import mobilevlm`"
        is_projector = module_name(path, root).startswith(PROJECTORS)
        torch_free = folder in TORCH_FREE_FOLDERS or module_name(path, root) in DEVICE_MODULES or is_projector
        at_once = {line for line, *_ in imports(path, root, run_on_import(tree.body))}
        for line, name, level in imports(path, root, ast.walk(tree)):
            if name.split(".")[0] in FOLDERS[1:]:
                yield f"{where}:{line}: {name} is imported by its bare name"
            is_heavy = name.split(".")[0] in HEAVY or name in HEAVY
            may_wait = is_projector or name in ON_DEMAND
            if torch_free and is_heavy and (not may_wait or line in at_once):
                yield f"{where}:{line}: {name} in the torch-free part"
            target = folder_of(name)
            if target == folder and level == 0 and not is_script and name not in ANYONE_MAY:
                yield f"{where}:{line}: {name} should be a relative import"
            is_light = name in DEVICE_MODULES | ANYONE_MAY or name.startswith(f"{PROJECTORS}.")
            if torch_free and folder == target == "mobilevlm" and not is_light:
                yield f"{where}:{line}: {name} is not torch-free, this module has to be"
            if target not in (None, folder) and level:
                yield f"{where}:{line}: {name} should be imported as mobilevlm.<folder>"
            if target not in (None, folder) and not allowed(folder, target, name):
                yield f"{where}:{line}: {folder} may not import {name}"


def allowed(folder: str, target: str, name: str) -> bool:
    rules = ALLOWED[folder]
    if target in rules or name in ANYONE_MAY:
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


def test_long_files_exist():
    assert [name for name in LONG_FILES if not (ROOT / name).is_file()] == []


FIX = "if not __package__:\n    sys.path[0] = ''"
BREAKS = {
    "bare name": ("export/a.py", "import engines.bundle", "imported by its bare name"),
    "sideways": ("export/a.py", "from mobilevlm.runtime import session", "export may not import mobilevlm.runtime"),
    "upwards": ("mobilevlm/a.py", "def f():\n    from mobilevlm.export import plan", "mobilevlm may not import"),
    "dots across": ("runtime/a.py", "from ..engines import bundle", "should be imported as mobilevlm.<folder>"),
    "not for the device": ("runtime/a.py", "from mobilevlm.model.model import MobileVLM", "runtime may not import"),
    "torch on the device": ("engines/a.py", "def f():\n    import torch.nn", "torch.nn in the torch-free part"),
    "torch in image": ("mobilevlm/image.py", "from transformers import X", "transformers in the torch-free part"),
    "absolute inside": ("export/a.py", "from mobilevlm.export import plan", "should be a relative import"),
    "namespace": ("export/a.py", "from mobilevlm import runtime", "export may not import mobilevlm.runtime"),
    "lazy name": ("engines/a.py", "from mobilevlm import MobileVLM", "engines may not import mobilevlm.MobileVLM"),
    "torch by a sibling": ("mobilevlm/image.py", "from .model.model import X", "mobilevlm.model.model is not torch"),
    "torch by a submodule": ("runtime/a.py", "from safetensors import torch", "safetensors.torch in the torch-free"),
    "torch by name": ("runtime/a.py", "import_module('torch')", "torch in the torch-free part"),
    "heavy package": ("mobilevlm/__init__.py", "try:\n    import torch\nexcept ImportError:\n    pass", "by a mere"),
    "torch in a projector": ("mobilevlm/model/projectors/a.py", "import torch", "torch in the torch-free part"),
    "model in a projector": (
        "mobilevlm/model/projectors/a.py",
        "from ..model import X",
        "mobilevlm.model.model is not",
    ),
    "script": ("runtime/a.py", 'if __name__ == "__main__":\n    pass', "lacks the sys.path fix"),
    "script's comment": ("runtime/a.py", f"# if not __package__:\n{MAIN}\n    pass", "lacks the sys.path fix"),
    "script's order": ("runtime/a.py", f"import mobilevlm.errors\n{FIX}\n{MAIN}\n    pass", "before the sys.path fix"),
    "script's dots": ("runtime/a.py", f"{FIX}\nfrom .session import Session\n{MAIN}\n    pass", "must be imported abs"),
    "long": ("train/a.py", "\n" * (LONGEST_FILE + 1), "more than"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_each_rule_can_fail(name, tmp_path):
    file, text, message = BREAKS[name]
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(text)
    found = list(problems(tmp_path))
    assert any(message in problem and problem.startswith(file) for problem in found), found
