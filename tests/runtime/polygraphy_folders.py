"""Bundles for TensorRT and their folders for Polygraphy: how tests make, run and damage them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest

from mobilevlm.engines.bundle import Bundle, amend_manifest
from tests.conftest import DEMO, ROOT, run

VERIFY = ROOT / "runtime" / "verify.py"
RANDOM = ("--random-weights", "mobilevlm_v2_demo")  # of the demo's size: no calibration for int4
BUILDS = {  # by name: model, precision and pieces
    "fp16": (("--model", DEMO), "fp16", 2),
    "int4": (RANDOM, "vision=int8,decoder=int4", 1),
    "fp32": (("--model", DEMO), "fp32", 1),
    "demo int8": (("--model", DEMO), "int8", 1),
    "demo int4": (("--model", DEMO), "vision=fp16,decoder=int4", 1),
}
CALLS = {
    "fp16": ("vision", "decoder.0.prompt", "decoder.0.token", "decoder.1.prompt", "decoder.1.token"),
    "int4": ("vision", "decoder.0.prompt", "decoder.0.token"),
    "fp32": ("vision", "decoder.0.prompt", "decoder.0.token"),
    "demo int8": ("vision", "decoder.0.prompt", "decoder.0.token"),
    "demo int4": ("decoder.0.prompt", "decoder.0.token"),
}
SLOW = dict.fromkeys(("fp32", "demo int8", "demo int4"), [pytest.mark.slow])


def write(bundle: Path, out: Path) -> Path:
    done = run(VERIFY, "--engine", bundle, "--polygraphy", out)
    assert done.returncode == 0, done.stderr
    return out


def step(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a step of a folder's script as a person would."""
    known = {name: value for name, value in os.environ.items() if name != "BASH_ENV"}
    command = ["bash", str(folder / "polygraphy.sh"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=known | environment)


def copied(made, name: str, root: Path) -> tuple[Path, Path]:
    """A bundle that may be damaged, and folders that were written before it was."""
    bundle = shutil.copytree(made(name)[0], root / "bundle")
    return bundle, write(bundle, root / "folders")


def damage(bundle: Path, part: str, weight: str) -> str:
    """Reverse a weight's values where they lie; the name of what is computed with it."""
    graph = onnx.load(str(bundle / f"{part}.onnx"), load_external_data=False).graph
    (tensor,) = (one for one in graph.initializer if one.name == weight)
    place = {entry.key: entry.value for entry in tensor.external_data}
    path, offset, length = bundle / place["location"], int(place["offset"]), int(place["length"])
    values = np.memmap(path, np.float16, "r+", offset, (length // 2,))
    values[:] = values[::-1].copy()
    values.flush()
    (node,) = (one for one in graph.node if weight in one.input)
    return node.output[0]


def reseal(bundle: Path, opened: Bundle, name: str) -> None:
    """Give an altered file a record that is its own, in a manifest as it was before."""
    amend_manifest(bundle, opened.manifest, [name])
