"""Making engines on the double: what is built, kept and refused, and what is said when TensorRT gives no reason."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from mobilevlm.engines.bundle import Bundle, BundleError
from mobilevlm.engines.tensorrt import library as tensorrt_library
from mobilevlm.engines.tensorrt import log as tensorrt_log
from mobilevlm.engines.tensorrt import subprocesses as tensorrt_apart
from mobilevlm.engines.tensorrt.builder import BuildError, EngineBuilder
from mobilevlm.engines.tensorrt.devices import ThisGpu
from mobilevlm.engines.tensorrt.progress import make_progress
from mobilevlm.errors import UserError
from tests.conftest import ROOT
from tests.tensorrt_double import tiny
from tests.tensorrt_double.bundles import compile_here, machine
from tests.tensorrt_double.plan import unpack

VERSIONS = ("10.3.0", "10.7.0", "10.16.2", "11.1.0", "11.4.1")
COMPILE, WORKER = ROOT / "engines" / "compile.py", ROOT / "engines" / "tensorrt" / "worker.py"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A bundle of two pieces; do not write into it."""
    return tiny.write_bundle(tmp_path_factory.mktemp("tiny") / "bundle", 2)


@pytest.fixture
def directory(prepared, tmp_path) -> Path:
    return shutil.copytree(prepared, tmp_path / "bundle")


def header(path: Path) -> dict:
    return unpack(path.read_bytes())[0]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_from_the_same_code(version, directory):
    with machine(version):
        bundle = compile_here(directory)
    plan = header(directory / "decoder.1.engine")
    assert plan["version"] == version and plan["capability"] == [8, 7]
    assert len(plan["profiles"]) == 6
    assert "TF32" not in plan["flags"]
    assert set(plan["pools"]) == {"WORKSPACE", "TACTIC_DRAM"} and 1 << 30 <= plan["pools"]["TACTIC_DRAM"] < 8 << 30
    assert Bundle.open(directory).manifest == bundle.manifest


def test_memory_of_a_card_is_its_own(directory):
    with machine(capability=(9, 0), integrated=False, memory_bytes=4 << 30):
        compile_here(directory)
    plan = header(directory / "decoder.0.engine")
    assert set(plan["pools"]) == {"WORKSPACE"} and plan["pools"]["WORKSPACE"] < 1 << 30


def test_profiles_are_a_chunk_and_a_token_behind_each_length(directory):
    with machine():
        compile_here(directory)
    profiles = header(directory / "decoder.0.engine")["profiles"]
    sizes = [(one["inputs_embeds"], one["past_key_values.0.key"]) for one in profiles]
    assert all(low == usual == high for pair in sizes for low, usual, high in pair)
    assert [(rows[0][1], cache[0][1]) for rows, cache in sizes] == [
        (rows, behind) for rows in (128, 2) for behind in (256, 512, 600)
    ]


def test_what_is_up_to_date_is_kept(directory, capsys):
    with machine() as double:
        compile_here(directory)
        assert double.settings.counts["builds"] == 3
        compile_here(directory)
        assert double.settings.counts["builds"] == 3
        assert capsys.readouterr().err.count("is up to date") == 3
        (directory / "decoder.0.engine").unlink()
        compile_here(directory)
        assert double.settings.counts == {"builds": 4, "timing cache misses": 3, "timing cache hits": 1}
    with machine("10.7.0") as double:  # another machine: all of them, and nothing of what was measured there
        compile_here(directory)
        assert double.settings.counts == {"builds": 3, "timing cache misses": 3}


def test_a_failure_keeps_what_is_done(directory):
    with machine(
        fail_build=("decoder.1", "Error Code 2: OutOfMemory (Requested size was 4294967296 bytes.)")
    ) as double:
        with pytest.raises(BuildError, match=r"Requested size.*--blocks.*engines/compile.py"):
            compile_here(directory)
        assert set(Bundle.open(directory).manifest.tensorrt["engines"]) == {"vision", "decoder.0"}
        assert not list(directory.glob("*.partial"))
        double.settings.fail_build = None
        compile_here(directory)
        assert double.settings.counts["builds"] == 3


def test_bundles_of_other_targets_have_nothing_to_compile(tmp_path):
    host = tiny.write_bundle(tmp_path / "host", target="host")
    with machine(), pytest.raises(BundleError, match="host, which runs as it is"):
        compile_here(host)


def test_a_cancelled_build_is_an_interruption(tmp_path):
    with machine() as double:
        builder = EngineBuilder(ThisGpu(Path("/nonexistent/timing.cache")), "again")
        builder.progress = make_progress(double.trt, "small", io.StringIO())
        builder.progress.cancel()
        with pytest.raises(KeyboardInterrupt):
            builder.build_file(small(tmp_path), ())


def small(directory: Path, operator: str = "Relu") -> Path:
    """A file with a graph of one operator."""
    one = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (4,)) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"], name="y")], "small", one[:1], one[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, directory / "small.onnx")
    return directory / "small.onnx"


@pytest.mark.parametrize("version", ("10.3.0", "10.16.2"))
def test_a_limit_that_is_refused_is_rounded_down_and_not_taken_for_the_reason(version, tmp_path):
    with machine(version):
        builder = EngineBuilder(ThisGpu(tmp_path / "timing.cache"), "again")
        builder.build_file(small(tmp_path), ())
        with pytest.raises(BuildError, match="^small.onnx could not be read .*Plugin not found"):
            builder.build_file(small(tmp_path, "Swish"), ())


def test_an_unknown_operator_is_named(tmp_path):
    with machine():
        builder = EngineBuilder(ThisGpu(tmp_path / "timing.cache"), "again")
        with pytest.raises(BuildError, match="node y.*Plugin not found.*prepare the bundle with this version"):
            builder.build_file(small(tmp_path, "Swish"), ())
        builder.build_file(small(tmp_path), ())  # and it goes on
        assert (tmp_path / "timing.cache").is_file()


def test_a_spoilt_timing_cache_is_begun_anew(tmp_path):
    (tmp_path / "timing.cache").write_bytes(b"of another device")
    with machine():
        EngineBuilder(ThisGpu(tmp_path / "timing.cache"), "again").build_file(small(tmp_path), ())
    assert b"(8, 7)" in (tmp_path / "timing.cache").read_bytes()


@pytest.mark.parametrize(
    "line, remedy",
    [
        ("NvMapMemAllocInternalTagged: 1075072515 error 12", "L4T 36.4.4 to 36.5.0"),
        ("ERROR: Error Code 6: API Usage Error (incompatible device, expecting compute 8.7", "make them here"),
        ("ERROR: x: optimization profile is missing values", "prepare the bundle again"),
        ("ERROR: Error Code 1: Myelin ([impl.cpp])", "see the lines above"),
    ],
)
def test_lines_of_the_log_become_remedies(line, remedy):
    text = tensorrt_log.explained("decoder.0 could not be built", [line], "python engines/compile.py DIR")
    assert text.startswith("decoder.0 could not be built (") and remedy in text
    assert text.endswith("python engines/compile.py DIR")


def test_without_tensorrt_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(UserError, match="nvidia-jetpack.*--system-site-packages"):
        tensorrt_library.import_tensorrt()


def command(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, timeout=120)


def test_workers_say_why_in_a_line(directory):
    with machine(fail_build=("decoder.0", "Error Code 2: OutOfMemory")):
        done = command(WORKER, directory, "decoder.0")
        assert done.returncode == 2 and "memory is short" in done.stdout and len(done.stdout.splitlines()) == 1
        assert "decoder.0: Building engine" not in done.stdout
        done = command(WORKER, directory, "vision")
        assert (done.returncode, done.stdout) == (0, "") and "vision: Building engine" in done.stderr


def test_the_command_line(directory):
    with machine("10.16.2"):
        done = command(COMPILE, directory)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"{directory} is ready.") and f"verify.py --engine {directory}" in done.stdout
        assert "TensorRT 10.16.2, compute capability" in done.stderr
        again = command(COMPILE, directory)
        assert again.returncode == 0 and again.stderr.count("is up to date") == 3
    with machine(fail_build=("vision", "Error Code 2: OutOfMemory")):
        done = command(COMPILE, directory)
        assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith("compile.py: vision.onnx could not be")


def test_ctrl_c_stops_a_build_at_its_next_step_and_keeps_what_is_done(directory):
    with machine(step_seconds=0.3):
        started = subprocess.Popen(
            [sys.executable, str(COMPILE), str(directory)], stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        while "decoder.0: Building engine" not in (line := started.stderr.readline()):
            assert line, "it has ended"
        os.killpg(started.pid, signal.SIGINT)  # as a terminal does
        begin = time.monotonic()
        assert "interrupted" in started.communicate(timeout=60)[1] and started.returncode == 130
        assert time.monotonic() - begin < 2 * 7 * 0.3  # all steps of one
    assert set(Bundle.open(directory).manifest.tensorrt["engines"]) == {"vision"}
    assert not list(directory.glob("*.partial"))


def test_a_worker_that_is_killed(directory, monkeypatch):
    monkeypatch.setattr(tensorrt_apart, "WORKER", directory / "killed.py")
    (directory / "killed.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    with pytest.raises(UserError, match="killed by signal 9.*want of memory.*Engines that are done are kept"):
        tensorrt_apart.build_apart(directory, "vision")
