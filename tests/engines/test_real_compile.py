"""`engines/compile.py` from beginning to end with NVIDIA's own builder, on the demo model's bundle for an Orin.

CUDA's runtime is the double's: a GPU of compute capability 8.6, the nearest to Orin's 8.7 that can be named, in a
machine's own memory. Nothing after the build is seen here: engines are not loaded, which needs a GPU, and TensorRT-RTX
keeps no timings in the cache that it takes and gives.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.stages import TIMING_CACHE_FILE, engine_file, weights_file
from mobilevlm.engines.tensorrt.devices import SPARE_BYTES
from mobilevlm.engines.tensorrt.profiles import bundle_profiles
from tests.conftest import DEMO, ROOT, build_here, needs_rtx, run
from tests.tensorrt_double.bundles import compile_here, machine

pytestmark = [needs_rtx, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # its timing caches do nothing
COMPILE = ROOT / "engines" / "compile.py"
PARTS = ["vision", "decoder.0", "decoder.1"]
MEMORY = 2 << 30  # bytes, fewer than are free on any machine that runs the tests


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """Do not write into it."""
    out = tmp_path_factory.mktemp("orin") / "bundle"
    return build_here("--model", DEMO, "--target", "orin", "--blocks", "2", precision="fp16", out=out)


@pytest.fixture
def directory(prepared, tmp_path) -> Path:
    return shutil.copytree(prepared, tmp_path / "bundle")


def board(**values):
    return machine("11.4.0", capability=(8, 6), real=True, **values)


def made(directory: Path) -> list[str]:
    """Parts whose engine the manifest has."""
    return list(Bundle.open(directory, compiling=True).manifest.tensorrt.get("engines", {}))


def stopped(directory: Path, by: signal.Signals) -> tuple[int, str]:
    """Begin, and send a signal to all processes when the second engine is begun: status, and the rest of stderr."""
    started = subprocess.Popen(
        [sys.executable, str(COMPILE), str(directory)], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while "decoder.0: Building engine" not in (line := started.stderr.readline()):
        assert line, "it ended before"
    os.killpg(started.pid, by)
    _, said = started.communicate(timeout=120)
    return started.returncode, said


@pytest.mark.slow
def test_engines_are_made_and_kept(directory):
    with board():
        done = run(COMPILE, directory)
        assert done.returncode == 0, done.stderr
        engines = {part: (directory / engine_file(part)).read_bytes() for part in PARTS}
        again = run(COMPILE, directory)
    assert "TensorRT 11.4.0, compute capability 8.6" in done.stderr and made(directory) == PARTS
    assert again.returncode == 0 and again.stderr.count("is up to date") == len(PARTS)
    for part, engine in engines.items():
        assert len(engine) > (directory / weights_file(part)).stat().st_size / 2, part
        assert engine == (directory / engine_file(part)).read_bytes()
    Bundle.open(directory)  # with the sizes and hashes of what was made
    assert not list(directory.glob("*.partial"))


@pytest.mark.slow
@pytest.mark.parametrize("by, status", [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_what_is_done_when_it_is_stopped_stays_done(by, status, directory):
    with board():
        ended, said = stopped(directory, by)
        assert ended == status and ("interrupted" in said) == (by == signal.SIGINT)
        assert made(directory) == ["vision"] and not (directory / engine_file("decoder.0")).exists()
        rest = run(COMPILE, directory)
    assert rest.returncode == 0, rest.stderr
    assert "vision.engine is up to date" in rest.stderr and rest.stderr.count("Building engine") == 2
    assert made(directory) == PARTS


def recorded(trt, monkeypatch) -> SimpleNamespace:
    """What the real configuration holds when a build begins, and the timing caches that were handed in."""
    kept = SimpleNamespace(configs=[], caches=[])
    build, read = trt.Builder.build_serialized_network, trt.IBuilderConfig.create_timing_cache

    def build_serialized_network(self, network, config):
        pools = trt.MemoryPoolType
        kept.configs.append(
            {
                "typed": network.get_flag(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED),
                "profiles": config.num_optimization_profiles,
                "workspace": config.get_memory_pool_limit(pools.WORKSPACE),
                "tactics": config.get_memory_pool_limit(pools.TACTIC_DRAM),
                "tf32": config.get_flag(trt.BuilderFlag.TF32),
                "streams": config.max_aux_streams,
                "monitored": config.progress_monitor is not None,
                "cached": config.get_timing_cache() is not None,
            }
        )
        return build(self, network, config)

    def create_timing_cache(self, serialized_timing_cache):
        kept.caches.append(serialized_timing_cache)
        return read(self, serialized_timing_cache)

    monkeypatch.setattr(trt.Builder, "build_serialized_network", build_serialized_network)
    monkeypatch.setattr(trt.IBuilderConfig, "create_timing_cache", create_timing_cache)
    return kept


def test_what_it_is_told_reaches_the_builder(directory, monkeypatch):
    """Limits of memory, which it may refuse and does not raise for, and the timing cache of the engine before."""
    with board(memory_bytes=MEMORY) as double:
        kept = recorded(double.trt, monkeypatch)
        bundle = compile_here(directory)
    limit = MEMORY - SPARE_BYTES
    expected = {"typed": True, "workspace": limit // 4, "tactics": 1 << 30, "tf32": False, "streams": 0}
    expected |= {"monitored": True, "cached": True}
    assert kept.configs == [expected | {"profiles": len(bundle_profiles(bundle, part))} for part in PARTS]
    assert kept.configs[1]["profiles"] > 1 and limit // 2 < 1 << 30 <= limit
    written = (directory / TIMING_CACHE_FILE).read_bytes()
    assert kept.caches[0] == b"" and len(written) > 0
    assert kept.caches[1:] == [written] * 2  # it holds no timings and so does not change: see above
