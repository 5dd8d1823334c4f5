"""Target rtx: engines by NVIDIA's real builder on a machine without a GPU; the runner on the double's TensorRT-RTX."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mobilevlm.engines.bundle import Bundle, BundleError
from mobilevlm.engines.tensorrt.record import PORTABLE_FROM, runs_on
from mobilevlm.errors import UserError
from mobilevlm.runtime.runner import open_runner
from mobilevlm.runtime.tensorrt.kernels import kernels_file
from tests.conftest import CHAT, ROOT, build, run
from tests.tensorrt_double import rtx, tiny
from tests.tensorrt_double.bundles import compile_here, machine

pytestmark = pytest.mark.skipif(
    sys.platform not in ("linux", "win32"), reason="TensorRT-RTX has wheels for these alone"
)
COMPILE = ROOT / "engines" / "compile.py"
ROWS = np.random.default_rng(3).normal(0, 1, (260, tiny.WIDTH)).astype(np.float16).astype(np.float32)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """Two pieces, no engines; do not write into it."""
    return tiny.write_bundle(tmp_path_factory.mktemp("rtx") / "bundle", 2, target="rtx")


@pytest.fixture
def directory(prepared, tmp_path) -> Path:
    return shutil.copytree(prepared, tmp_path / "bundle")


@pytest.fixture(scope="module")
def int4(tmp_path_factory) -> Path:
    """By the command line, whose engines are made at once, as TensorRT-RTX is installed; random, of the demo's size."""
    out = tmp_path_factory.mktemp("random") / "rtx"
    words = ("--random-weights", "mobilevlm_v2_demo", "--target", "rtx", "--max-context", "512")
    done = build(*words, out=out, precision="int4")
    assert done.returncode == 0, done.stderr
    assert "copy this repository" in done.stderr and "runtime/chat.py" in done.stderr
    return out


def recorded(directory: Path) -> dict:
    return Bundle.open(directory).manifest.tensorrt


def test_engines_are_made_without_a_gpu_for_all_from_ampere_on(int4):
    record = recorded(int4)
    assert record["machine"]["capability"] == "" and set(record["engines"]) == {"vision", "decoder.0"}
    again = run(COMPILE, int4)
    assert again.returncode == 0 and again.stderr.count("is up to date") == 2
    assert "compute capability 8.0 and newer" in again.stderr


def test_gpus_that_are_named_get_engines_of_their_own(int4, tmp_path):
    """Turing's is another; those of newer ones are the same code with their names in it."""
    copy = shutil.copytree(int4, tmp_path / "copy")
    done = run(COMPILE, copy, "--capability", "SM89", "SM120")
    assert done.returncode == 0 and recorded(copy)["machine"]["capability"] == "SM89,SM120"
    assert (copy / "vision.engine").read_bytes() != (int4 / "vision.engine").read_bytes()
    for words, said in (
        (["SM75"], "model contains HW-specific datatypes: int4.*Turing.*--precision fp16"),
        (["SM1"], "does not know SM1; it knows SM120.*SM75, SM80"),
    ):
        done = run(COMPILE, copy, "--capability", *words)
        assert done.returncode == 2
        with pytest.raises(UserError, match=said):
            raise UserError(done.stderr)
        assert "Traceback" not in done.stderr


def test_engines_of_turing_in_a_precision_that_it_has(directory):
    done = run(COMPILE, directory, "--capability", "SM75")
    assert done.returncode == 0 and recorded(directory)["machine"]["capability"] == "SM75"


def test_turing_has_no_products_of_float32(tmp_path):
    done = run(COMPILE, tiny.write_bundle(tmp_path / "fp32", precision="fp32", target="rtx"), "--capability", "SM75")
    assert done.returncode == 2 and "FP32 GEMM is not supported" in done.stderr
    assert "Turing, SM75, has none for int4 and fp32): build the bundle with --precision fp16" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_killed_build_goes_on(directory):
    child = subprocess.Popen([sys.executable, COMPILE, directory], stderr=subprocess.PIPE, start_new_session=True)
    while not (directory / "vision.engine").exists():
        time.sleep(0.01)
        assert child.poll() is None
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate()
    done = run(COMPILE, directory)
    assert done.returncode == 0 and not list(directory.glob("*.partial"))
    assert set(recorded(directory)["engines"]) == {"vision", "decoder.0", "decoder.1"}


def test_capabilities_are_for_this_target_alone(tmp_path):
    orin = tiny.write_bundle(tmp_path / "orin")
    done = run(COMPILE, orin, "--capability", "SM86")
    assert done.returncode == 2 and "--target rtx" in done.stderr and "GPU at hand" in done.stderr


def test_without_a_gpu_chat_says_so(int4):
    done = run(CHAT, "--engine", int4, "--prompt", "Hello")
    assert done.returncode == 2 and "no NVIDIA driver" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("named", "here", "fits"),
    [
        ("", "8.0", True),
        ("", "12.1", True),
        ("", "7.5", False),
        ("SM75", "7.5", True),
        ("SM75", "8.6", False),
        ("SM86,SM120", "12.0", True),
        ("SM120", "1.2", False),
    ],
)
def test_what_runs_where(named, here, fits):
    assert runs_on(named, here) == fits
    assert PORTABLE_FROM == 10 * rtx.OLDEST[0] + rtx.OLDEST[1]


def pretend(capability=(8, 9), **values):
    return machine(rtx.VERSION, rtx=True, capability=capability, integrated=False, memory_bytes=8 << 30, **values)


def test_answers_are_those_of_the_model(directory):
    wanted = tiny.reference(ROWS)
    with pretend():
        runner = open_runner(compile_here(directory))
        for past, stop in ((0, 5), (5, 6), (6, 200), (200, 255), (255, 256), (256, 257)):
            assert np.abs(np.asarray(runner.decode(ROWS[past:stop], past)) - wanted[stop - 1]).max() < 0.03
        assert runner.not_captured == ""
        runner.close()


def test_kernels_are_compiled_once_for_each_gpu(directory, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pretend() as double:
        bundle = compile_here(directory)

        def compiled() -> int:
            double.settings.counts.pop("kernels compiled", None)
            runner = open_runner(bundle)
            runner.decode(ROWS[:5], 0)
            runner.close()
            return double.settings.counts.get("kernels compiled", 0)

        assert compiled() > 0 and compiled() == 0
        path = kernels_file(bundle, "decoder.1", rtx.VERSION, "8.9")
        kept = path.read_bytes()
        path.write_bytes(kept[: len(kept) // 2])  # as a full disk or a stranger would leave it
        assert compiled() > 0 and compiled() == 0 and path.read_bytes() == kept
        path.write_bytes(json.dumps([["10.0", [8, 9]], []]).encode())  # of another version
        assert compiled() > 0 and compiled() == 0
    with pretend((12, 0)) as double:
        runner = open_runner(bundle)
        runner.close()
        assert double.settings.counts["kernels compiled"] > 0


def test_where_nothing_can_be_kept_it_runs_all_the_same(directory, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pretend(), pytest.warns(UserWarning, match="compiled again at the next start"):
        runner = open_runner(compile_here(directory))
        assert np.isfinite(np.asarray(runner.decode(ROWS[:5], 0))).all()
        runner.close()


def test_engines_for_other_gpus_are_refused_with_the_command_that_helps(directory):
    with pretend():
        bundle = compile_here(directory)
    with (
        pretend((7, 5)),
        pytest.raises(BundleError, match="made for SM80 and newer, this GPU is SM75.*--capability SM75"),
    ):
        open_runner(bundle)
    with pretend():
        bundle = compile_here(directory, ["SM75"])
        with pytest.raises(BundleError, match="made for SM75, this GPU is SM89.*--capability SM89"):
            open_runner(bundle)
