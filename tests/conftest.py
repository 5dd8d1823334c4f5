"""What the tests share: the goldens of the original implementation, and bundles built from them once."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.long_files import LONG_FILES

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden"
GOLDEN_MODELS = ("v1_ldpnet_112", "v2_ldpnetv2_336")
DEMO = ROOT / "assets" / "demo"
BUILD, CHAT = ROOT / "export" / "build_engines.py", ROOT / "runtime" / "chat.py"
BENCHMARK = ROOT / "runtime" / "benchmark.py"
# Tests that give something to NVIDIA's own builder.
needs_rtx = pytest.mark.skipif(
    sys.platform not in ("linux", "win32"), reason="TensorRT-RTX has wheels for Linux and Windows alone"
)


def pytest_configure() -> None:
    """Give each worker a CPU of its own: threads that spin on CPUs they share take three times as long."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker and hasattr(os, "sched_setaffinity"):
        cpus = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cpus[int(worker.removeprefix("gw")) % len(cpus)]})


@pytest.hookimpl(tryfirst=True)  # before `-m` looks at marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the files that take long and put them first, so that no worker is left with one at the end."""
    places = {name: place for place, name in enumerate(LONG_FILES)}
    for item in items:
        if item.location[0] in places:
            item.add_marker("long")
    items.sort(key=lambda item: places.get(item.location[0], len(places)))


def load_golden(name: str) -> SimpleNamespace:
    """A golden: `directory`, `checkpoint`, arrays of `golden.npz`, and `meta`."""
    directory = GOLDEN / name
    meta = directory / "meta.json"
    return SimpleNamespace(
        directory=directory,
        checkpoint=directory / "ckpt_safetensors",
        arrays=dict(np.load(directory / "golden.npz")),
        meta=json.loads(meta.read_text()) if meta.is_file() else {},
    )


def run(*words: str | Path, cwd: Path = ROOT, **options) -> subprocess.CompletedProcess[str]:
    """Run a Python program as a person would and capture what it prints."""
    command = [sys.executable, *(word if isinstance(word, bytes) else str(word) for word in words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, **options)


def build(
    *options: str | Path, out: Path, precision: str | None = "fp32", **keywords
) -> subprocess.CompletedProcess[str]:
    """Run build_engines.py for the host: in float32, which is compared exactly; None for the target's default."""
    chosen = [] if precision is None or "--precision" in options else ["--precision", precision]
    return run(BUILD, "--target", "host", "--out", out, *options, *chosen, **keywords)


def build_here(*options: str | Path, out: Path, precision: str = "fp32") -> Path:
    """A host bundle made in this process, where what it imports can be changed; returns `out`."""
    from mobilevlm.export import build_engines

    words = ["--target", "host", "--precision", precision, "--out", out, *options]
    build_engines.build(build_engines.parser().parse_args([str(word) for word in words]))
    return out


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first process of a test run to ask for it makes, for all files that only read it.

    Args:
        factory: pytest's; its workers (`pytest -n`) have folders below the run's own.
        name: of the folder.
        make: called with a path that is not there yet.
    """
    root = factory.getbasetemp()
    root = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "once"
    root.mkdir(exist_ok=True)
    with open(root / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = root / f"{name}.made"
        if not made.exists():
            shutil.rmtree(root / name, ignore_errors=True)  # of a process that was stopped
            make(root / name)
            made.touch()
    return root / name


HOST_DEFAULT = "vision=int8,prefill=int8,decoder=int4"  # of a CPU without AMX


def demo_host(factory: pytest.TempPathFactory, precision: str) -> Path:
    """The host's bundle of the demo model in a precision, built by the command line. Do not write into it.

    Args:
        factory: pytest's.
        precision: as `--precision` takes it.
    """

    def make(out: Path) -> None:
        done = build("--model", DEMO, out=out, precision=precision)
        assert done.returncode == 0, done.stderr

    return once(factory, f"demo-host-{precision}", make)


@pytest.fixture(scope="session")
def demo_fp32(tmp_path_factory) -> Path:
    """The host's float32 bundle of the demo model. Do not write into it."""
    return demo_host(tmp_path_factory, "fp32")


@pytest.fixture(params=GOLDEN_MODELS)
def golden(request) -> SimpleNamespace:
    """Each golden model."""
    return load_golden(request.param)


@pytest.fixture(scope="session")
def bundles(tmp_path_factory) -> dict[str, Path]:
    """A host fp32 bundle of each golden model. Do not write into it: see `bundle_copy`."""

    def make(root: Path) -> None:
        for name in GOLDEN_MODELS:
            build_here("--model", GOLDEN / name / "ckpt_safetensors", out=root / name)

    root = once(tmp_path_factory, "bundles", make)
    return {name: root / name for name in GOLDEN_MODELS}


@pytest.fixture
def bundle(bundles) -> Path:
    """A bundle that takes pictures of 336 px."""
    return bundles["v2_ldpnetv2_336"]


@pytest.fixture
def bundle_copy(bundle, tmp_path) -> Path:
    """A bundle a test may damage."""
    return shutil.copytree(bundle, tmp_path / "bundle")


@pytest.fixture
def checkpoint_copy(tmp_path) -> Path:
    """A checkpoint with its vision tower beside it, as the goldens have it, that a test may damage."""
    shutil.copytree(GOLDEN / "v2_ldpnetv2_336", tmp_path / "model", ignore=shutil.ignore_patterns("*.npz", "ckpt_bin"))
    return tmp_path / "model" / "ckpt_safetensors"
