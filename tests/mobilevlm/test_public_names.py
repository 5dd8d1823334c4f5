"""The names that a user of the Python API imports from `mobilevlm`: all there, light, and typed as what they are."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module

import pytest

import mobilevlm
from tests.conftest import ROOT

LAZY = sorted(set(mobilevlm.__all__) - {"__version__"})
NEED_TORCH = {"MobileVLM", "Checkpoint", "open_checkpoint"}


def python(code: str) -> subprocess.CompletedProcess[str]:
    start = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"
    return subprocess.run([sys.executable, "-c", start + code], capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("name", LAZY)
def test_every_name_is_that_of_its_module(name):
    found = getattr(mobilevlm, name)
    assert found is getattr(import_module(f"mobilevlm.{mobilevlm._MODULES[name]}"), name)
    assert name in dir(mobilevlm)


def test_what_a_type_checker_sees_is_the_table():
    tree = ast.parse((ROOT / "mobilevlm/__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen == mobilevlm._MODULES
    assert sorted(seen) == LAZY


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'MobileVLN'"):
        mobilevlm.MobileVLN  # noqa: B018
    with pytest.raises(ImportError):
        from mobilevlm import MobileVLN  # noqa: F401


def test_importing_loads_nothing_heavy():
    done = python("import mobilevlm\nprint(mobilevlm.__version__, {'torch', 'numpy', 'PIL'} & {*sys.modules})")
    assert done.stdout == f"{mobilevlm.__version__} set()\n", done.stderr


def test_without_torch_all_but_the_model_are_there():
    code = f"""
sys.modules |= dict.fromkeys(("torch", "transformers", "accelerate", "safetensors.torch"))
import mobilevlm
for name in {sorted(set(LAZY) - NEED_TORCH)}:
    getattr(mobilevlm, name)
for name in {sorted(NEED_TORCH)}:
    try:
        getattr(mobilevlm, name)
    except ImportError:
        print(name)
"""
    done = python(code)
    assert done.stdout.split() == sorted(NEED_TORCH), done.stderr
