"""The script for Polygraphy: its options in the installed version, its refusals, and its page.

NVIDIA's builder is there as a wheel (`engines/tensorrt/rtx.py`), so `--trt` is tried as far as an engine that is built.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import polygraphy.tools
import pytest
from polygraphy.tools.base import Tool

from mobilevlm.export import build_engines
from mobilevlm.runtime import verify
from tests.conftest import ROOT
from tests.runtime.polygraphy_folders import CALLS, step

STEPS = (
    ["golden"],
    ["golden", "--trt"],
    ["golden", "--onnxrt", "--trt"],
    ["engine"],
    ["layers"],
    ["layers", "--onnxrt"],
    ["keep"],
    ["reduce"],
    ["reduce", "--onnxrt"],
    ["inspect"],
)


def test_layers_are_what_is_computed_in_its_order(made):
    """Every product and sum of the graph; no weight as it is dequantised, which would be as large as in float16."""
    bundle, folders = made("int4")
    text = (folders / "decoder.0.token" / "polygraphy.sh").read_text()
    compared = re.search(r"^values=\((.*)\)$", text, re.MULTILINE)[1].split()
    nodes = onnx.load(str(bundle / "decoder.0.onnx"), load_external_data=False).graph.node
    operators = {node.output[0]: node.op_type for node in nodes}
    assert compared == [name for name in operators if name in set(compared)]
    assert {name for name, operator in operators.items() if operator in ("MatMul", "Add", "Softmax")} <= set(compared)
    assert not {operators[name] for name in compared} & {"DequantizeLinear", "Cast", "TopK", "Concat"}


@pytest.mark.parametrize("call", ("vision", "decoder.0.token"))
def test_polygraphy_takes_every_option(made, call, tmp_path, monkeypatch):
    """All steps' commands go through the installed version's parser, which knows no option it renamed."""
    folder = shutil.copytree(made("int4" if call != "vision" else "fp16")[1] / call, tmp_path / call)
    for made_before in ("reduced.onnx", "layers.json"):
        (folder / made_before).write_text('{"lst": [], "polygraphy_class": "RunResults"}')
    script = folder / "polygraphy.sh"
    recorder = tmp_path / "bin" / "polygraphy"
    recorder.parent.mkdir()
    recorder.write_text(
        f'#!/usr/bin/env bash\nprintf "%s\\0" "$@" >>{shlex.quote(str(tmp_path / "said"))}\n'
        f'printf "\\1" >>{shlex.quote(str(tmp_path / "said"))}\ntouch layers.partial.json\n'
    )
    recorder.chmod(0o755)
    script.write_text(
        re.sub("^PATH=.*", f"PATH={shlex.quote(str(recorder.parent))}:$PATH", script.read_text(), flags=re.M)
    )
    for words in STEPS:
        done = step(folder, *words)
        assert done.returncode == 0, done.stderr
    said = [one.split("\0")[:-1] for one in (tmp_path / "said").read_text().split("\1")[:-1]]
    assert len(said) == len(STEPS) + 1  # keep has two
    monkeypatch.setattr(Tool, "run", lambda self, args: 0)
    monkeypatch.chdir(folder)
    checks = []
    for words in said:
        assert polygraphy.tools.main(words) == 0, words
        if "--check" in words:
            checks.append(words[words.index("--check") + 1 :])
    assert len(checks) == 2 and all(words[:2] == ["polygraphy", "run"] for words in checks)
    assert all(polygraphy.tools.main(words[1:]) == 0 for words in checks)
    assert polygraphy.tools.main(["run", "--no-such-option"]) == 1


@pytest.fixture
def rtx(tmp_path) -> dict[str, str]:
    """Settings with which Polygraphy takes TensorRT-RTX for TensorRT: its wheels bring the module by another name."""
    pytest.importorskip("tensorrt_rtx_bindings", reason="there are wheels for Linux and Windows alone")
    lines = "from tensorrt_rtx_bindings import *\nfrom tensorrt_rtx_bindings import __version__\n"
    (tmp_path / "rtx").mkdir()
    (tmp_path / "rtx" / "tensorrt_rtx.py").write_text(lines)
    paths = [str(tmp_path / "rtx"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"POLYGRAPHY_USE_TENSORRT_RTX": "1", "PYTHONPATH": os.pathsep.join(paths)}


@pytest.mark.parametrize(
    ("name", "call", "words"),
    [
        ("fp16", "vision", ["golden", "--trt"]),
        ("fp16", "decoder.1.prompt", ["golden", "--trt"]),
        ("fp16", "decoder.0.token", ["layers"]),
        ("int4", "vision", ["layers"]),
        ("int4", "decoder.0.token", ["layers"]),
    ],
)
def test_nvidias_builder_makes_the_engine(made, rtx, name, call, words):
    """`--trt` gets as far as an engine; loading one takes a GPU."""
    done = step(made(name)[1] / call, *words, **rtx)
    said = done.stdout + done.stderr
    assert "Finished engine building" in said, said
    assert "buildSerializedNetwork: Error" not in said


def test_the_scripts_are_sound(made):
    program = shutil.which("shellcheck") or shutil.which("shellcheck", path=os.path.dirname(sys.executable))
    assert program, "pip install '.[dev]' brings shellcheck"
    scripts = sorted(made("fp16")[1].glob("*/polygraphy.sh"))
    assert len(scripts) == len(CALLS["fp16"])
    done = subprocess.run([program, *scripts], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_what_a_script_refuses(made, tmp_path):
    folder = shutil.copytree(made("fp16")[1] / "vision", tmp_path / "vision")
    old = tmp_path / "old"
    old.mkdir()
    (old / "onnxruntime.py").write_text('__version__ = "1.29.1"\n')
    for words in (["golden"], ["layers"], ["keep"], ["reduce"]):
        done = step(made("int4")[1] / "vision", *words, PYTHONPATH=str(old))
        assert done.returncode == 2 and "ONNX Runtime 1.29.1 truncates where int8 layers round" in done.stderr
    assert "truncates" not in step(made("int4")[1] / "decoder.0.token", "golden", PYTHONPATH=str(old)).stderr
    for words, message in (
        ([], "bash polygraphy.sh STEP"),
        (["speed"], "bash polygraphy.sh STEP"),
        (["inspect"], "there is no reduced.onnx yet: bash polygraphy.sh reduce"),
        (["layers", "--onnxrt"], "there is no layers.json to compare with"),
        (["reduce", "--onnxrt"], "there is no layers.json to compare with"),
    ):
        done = step(folder, *words)
        assert done.returncode == 2 and message in done.stderr
    script = folder / "polygraphy.sh"
    text = script.read_text()
    script.write_text(re.sub(r"^bytes=\d+", "bytes=2147483648", text, flags=re.MULTILINE))
    done = step(folder, "layers")
    assert done.returncode == 2 and "build_engines.py --blocks N" in done.stderr
    script.write_text(re.sub("^bundle=.*", "bundle=/nonexistent", text, flags=re.MULTILINE))
    done = step(folder, "golden")
    assert done.returncode == 2 and "copy the whole bundle" in done.stderr


def test_the_page_shows_what_there_is():
    """Its commands parse, its steps are the script's, and what it links to is there."""
    text = (ROOT / "docs" / "polygraphy.md").read_text()
    lines = "\n".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL)).splitlines()
    parsers = {"export/build_engines.py": build_engines.parser, "runtime/verify.py": verify.parser}
    steps = {" ".join(words) for words in STEPS}
    seen = set()
    for words in filter(None, map(shlex.split, lines)):
        if words[0] == "python":
            parsers[words[1]]().parse_args(words[2:])
        elif words[0] == "bash":
            assert Path(words[1]).name == "polygraphy.sh" and " ".join(words[2:]) in steps
            seen.add(words[2])
        else:
            assert words[:2] == ["pip", "install"]
    assert seen == {"golden", "layers", "reduce", "inspect"}
    assert {"engine", "golden --trt", "keep", "reduce --onnxrt"} <= set(re.findall(r"`([^`\n]+)`", text)) & steps
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / "docs" / target).is_file()
