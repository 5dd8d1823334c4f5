"""The device side runs where neither PyTorch nor transformers is installed."""

import subprocess
import sys

from tests.conftest import BUILD, CHAT, ROOT

BLOCKED = ("torch", "transformers", "accelerate", "huggingface_hub", "onnx", "tqdm", "tokenizers", "peft")
BLOCK = f"""
import importlib.abc, sys
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {BLOCKED}:
            raise ModuleNotFoundError(f"blocked: {{name}}")
sys.meta_path.insert(0, Blocked())
sys.path.insert(0, {str(ROOT)!r})
"""


def python(code):
    return subprocess.run([sys.executable, "-c", BLOCK + code], capture_output=True, text=True, timeout=120)


def test_the_block_blocks():
    """Otherwise the tests below would prove nothing."""
    for name in BLOCKED:
        assert f"blocked: {name}" in python(f"import {name}").stderr


def test_import_and_chat_without_torch(bundle):
    code = f"""
import mobilevlm, mobilevlm.runtime, mobilevlm.engines
from mobilevlm.runtime import Session
with Session({str(bundle)!r}) as session:
    print("".join(session.chat("What is it?", {str(ROOT / "assets" / "table.jpg")!r}, max_new_tokens=5)))
"""
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_building_without_torch_says_what_to_install():
    code = f"""
import importlib.util, runpy
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in {BLOCKED} else find(name, package)
sys.argv = ["build_engines.py", "--model", "x/y", "--target", "host"]
runpy.run_path({str(BUILD)!r}, run_name="__main__")
"""
    done = python(code)
    assert done.returncode == 2 and "building needs torch, transformers" in done.stderr
    assert "mobilevlm[export]" in done.stderr


def test_a_wrong_precision_is_refused_without_torch():
    """What is asked of precisions and projectors before anything is built, or on a device, imports nothing heavy."""
    code = f"""
import runpy
from mobilevlm.engines.targets import TARGETS
from mobilevlm.export.precisions import facts_of
from mobilevlm.model.projectors import num_image_tokens, projector_of
from mobilevlm.presets import PRESETS
for target in TARGETS.values():
    assert all(facts_of(target.backend, name).form for names in target.precisions.values() for name in names)
for preset in PRESETS.values():
    assert preset.vision is None or projector_of(preset).operations(preset) > 0 < num_image_tokens(preset)
sys.argv = ["build_engines.py", "--model", "x/y", "--target", "host", "--precision", "fp8"]
runpy.run_path({str(BUILD)!r}, run_name="__main__")
"""
    done = python(code)
    assert done.returncode == 2 and "'fp8' is not available for target host" in done.stderr


def test_the_command_without_torch(bundle):
    code = f"""
import runpy
sys.argv = ["chat.py", "--engine", {str(bundle)!r}, "--prompt", "Hello", "--max-new-tokens", "4"]
runpy.run_path({str(CHAT)!r}, run_name="__main__")
"""
    done = python(code)
    assert done.returncode == 0 and done.stdout.strip() and "TTFT" in done.stderr
