"""build_engines.py: a build that would give another model, or that cannot finish, is refused and leaves nothing."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.torch import load_file as load_torch
from safetensors.torch import save_file

from mobilevlm.engines.bundle import Bundle
from tests.conftest import BUILD, GOLDEN, build, build_here


@pytest.fixture
def v1_copy(tmp_path):
    shutil.copytree(GOLDEN / "v1_ldpnet_112", tmp_path / "v1", ignore=shutil.ignore_patterns("*.npz", "ckpt_bin"))
    return tmp_path / "v1" / "ckpt_safetensors"


def test_weights_beyond_float16_are_refused(v1_copy, tmp_path):
    tensors = load_torch(v1_copy / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = 1e6
    save_file(tensors, v1_copy / "model.safetensors")
    done = build("--model", v1_copy, "--precision", "fp16", out=tmp_path / "out")
    assert done.returncode == 2
    assert "stage decoder: model.layers.1.mlp.up_proj.weight holds 1e+06" in done.stderr
    assert "--precision decoder=fp32" in done.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "v1"]


def test_a_stage_that_differs_fails_the_build(v1_copy, tmp_path):
    """Weights so small that float16 flushes them to zero: the stored model is another one, and the build says so."""
    tensors = load_torch(v1_copy / "model.safetensors")
    name = "model.layers.2.mlp.up_proj.weight"
    tensors[name] *= 1e-7
    tensors["model.layers.2.mlp.down_proj.weight"] *= 1e4
    tensors["model.layers.2.mlp.gate_proj.weight"] *= 1e2
    save_file(tensors, v1_copy / "model.safetensors")
    done = build("--model", v1_copy, "--precision", "fp16", out=tmp_path / "out")
    assert done.returncode == 2, done.stderr
    assert "differs from PyTorch: " in done.stderr and "stage decoder, tensor logits: " in done.stderr
    assert " dB, at least " in done.stderr and "; max difference " in done.stderr
    assert ", mean " in done.stderr and ", allowed " in done.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "v1"]


def test_weights_that_are_not_finite_are_said(v1_copy, tmp_path):
    tensors = load_torch(v1_copy / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = float("nan")
    save_file(tensors, v1_copy / "model.safetensors")
    done = build("--model", v1_copy, out=tmp_path / "out")
    assert done.returncode == 2 and "not finite" in done.stderr and list(tmp_path.iterdir()) == [tmp_path / "v1"]


@pytest.mark.parametrize("stage, tensor", [("vision", "image_embeds"), ("decoder", "logits")])
def test_a_wrong_graph_fails_the_build(stage, tensor, v1_copy, tmp_path, monkeypatch):
    """A mistake in a lowering (here: the wrong epsilon, the wrong activation) cannot reach a bundle."""
    from mobilevlm.export.lowerings import ort

    if stage == "vision":
        monkeypatch.setattr(ort, "quick_gelu", lambda graph, x: graph.op("Gelu", x))
    else:
        norm = ort.add_norm
        monkeypatch.setattr(ort, "add_norm", lambda graph, x, r, w, epsilon: norm(graph, x, r, w, 1e-2))
    with pytest.raises(ValueError, match=f"stage {stage}, tensor {tensor}: .* dB, at least .*; max difference .* mean"):
        build_here("--model", v1_copy, out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == [tmp_path / "v1"]


def test_existing_output_is_kept_unless_told(v1_copy, tmp_path):
    out = tmp_path / "out"
    assert build("--model", v1_copy, out=out).returncode == 0
    before = (out / "bundle.json").read_text()
    done = build("--model", v1_copy, out=out)
    assert done.returncode == 2 and "--overwrite" in done.stderr and (out / "bundle.json").read_text() == before
    done = build("--model", v1_copy, "--max-context", "64", "--overwrite", out=out)
    assert done.returncode == 0 and Bundle.open(out).manifest.max_context == 64


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_build_stopped_at_any_moment_leaves_no_bundle(blow, v1_copy, tmp_path):
    generator = np.random.default_rng(int(blow))
    out = tmp_path / "place" / "out"
    for _ in range(2):
        words = [sys.executable, BUILD, "--model", v1_copy, "--target", "host", "--precision", "fp32", "--out", out]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
        deadline = time.time() + 60
        while time.time() < deadline and process.poll() is None and not list(tmp_path.glob("place/.out.building-*")):
            time.sleep(0.005)
        time.sleep(generator.uniform(0, 0.4))
        os.killpg(process.pid, blow)
        process.communicate(timeout=60)
        if out.exists():  # it was done before the blow
            Bundle.open(out)
            shutil.rmtree(out)
        elif blow != signal.SIGKILL:
            assert list((tmp_path / "place").iterdir()) == []
    assert build("--model", v1_copy, out=out).returncode == 0
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    Bundle.open(out)


def test_a_full_disk_is_said_before_and_during(v1_copy, tmp_path, monkeypatch, capsys):
    import errno
    from collections import namedtuple

    from mobilevlm.commands import run_command
    from mobilevlm.export import build_engines, plan
    from mobilevlm.export.split.graph import Graph

    words = ["--model", str(v1_copy), "--target", "host", "--precision", "fp32", "--out", str(tmp_path / "out")]
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(plan.shutil, "disk_usage", lambda place: usage(1, 1, 1000))
        with pytest.raises(ValueError, match=r"the bundle needs 1\d MB.*has 0 MB free: make room"):
            build_engines.build(build_engines.parser().parse_args(words))

    def full(self, path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Graph, "save", full)
    with pytest.raises(SystemExit) as stop:
        run_command(build_engines.parser(), build_engines.build, words)
    assert stop.value.code == 2 and "the disk is full" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [tmp_path / "v1"]


@pytest.mark.parametrize(
    "words, message",
    [
        (["--model", "no/such/dir/here"], "does not exist"),
        (["--model", str(BUILD)], "is a file"),
        (["--model", str(GOLDEN)], "config.json is missing"),
        (["--random-weights", "mobilevlm_9b"], "invalid choice"),
        (["--model", str(GOLDEN), "--precision", "fp12"], "'fp12' is not available for target host"),
        ([], "--model"),
    ],
)
def test_mistakes_on_the_command_line(words, message, tmp_path):
    done = build(*words, out=tmp_path / "out")
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
