"""smoke.py on the double's TensorRT-RTX: all is well, steps that fail beside others that do not, and no GPU at all."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from mobilevlm.runtime import smoke, smoke_steps
from mobilevlm.runtime.smoke_answers import ALL, FEW, QUESTIONS
from mobilevlm.runtime.smoke_steps import ANSWERS, BENCHMARK, FIRST, LIMITS, ON_CPU, SECOND, VERIFY, run_step
from tests.conftest import DEMO, ROOT, build_here, needs_rtx, run
from tests.tensorrt_double import rtx
from tests.tensorrt_double.bundles import compile_here, machine

SMOKE = ROOT / "runtime" / "smoke.py"
MINUTES = 10 * 60


def pc():
    return machine(rtx.VERSION, rtx=True, capability=(8, 9), integrated=False, memory_bytes=8 << 30)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """The demo model with NVIDIA's engines, which need a GPU; do not write into it."""
    out = tmp_path_factory.mktemp("demo") / "rtx"
    return build_here("--model", DEMO, "--target", "rtx", "--max-context", "512", precision="fp16", out=out)


@pytest.fixture
def directory(prepared, tmp_path, monkeypatch) -> Path:
    """With the double's engines, a folder to write to, and limits for a machine of any speed."""
    monkeypatch.chdir(tmp_path)
    # For the process that looks at the GPU: `spawn` hands it this process's path.
    monkeypatch.syspath_prepend(ROOT / "tests" / "tensorrt_double" / "modules")
    monkeypatch.setattr(smoke_steps, "LIMITS", {name: 10 * limit for name, limit in LIMITS.items()})
    return shutil.copytree(prepared, tmp_path / "bundle")


def tried(directory: Path, *options: str) -> int:
    """On the pretended PC: the exit status."""
    with pc():
        compile_here(directory)
        try:
            smoke.main(["--engine", str(directory), *options])
        except SystemExit as ended:
            return ended.code
    return 0


def test_all_of_it_ends_within_ten_minutes():
    assert sum(LIMITS.values()) <= MINUTES - 30  # starting and stopping processes


@needs_rtx
def test_a_good_bundle(directory, capsys):
    assert tried(directory) == 0
    printed = capsys.readouterr().out
    document = json.loads(Path("smoke-bundle.json").read_text())
    steps = {step["name"]: step for step in document["steps"]}
    assert list(steps) == [FIRST, VERIFY, ANSWERS, ON_CPU, BENCHMARK, SECOND]
    for name, step in steps.items():
        assert step["problem"] == step["left_out"] == "" and step["figures"], name
        assert f"| {name} | ok | {step['seconds']:.1f} |" in printed
    said = steps[ANSWERS]["figures"]
    assert said[FEW] == said[ALL] == steps[ON_CPU]["figures"][ALL] and len(said[ALL]) == QUESTIONS
    assert len({answer["text"] for answer in said[ALL]}) > QUESTIONS / 2  # not all the same word
    first, second = steps[FIRST]["figures"], steps[SECOND]["figures"]
    assert first["kernel_files"] == 2 and first["kernel_bytes"] > 0  # of two engines
    assert second["answer"] == first["answer"] != ""
    assert steps[VERIFY]["summary"].endswith("are PyTorch's") and "prefill" in steps[BENCHMARK]["figures"]
    assert document["gpu"]["capability"] == "8.9" and document["gpu"]["library"] == "TensorRT-RTX"


@needs_rtx
def test_what_fails_is_shown_and_the_rest_still_runs(directory, capsys, monkeypatch):
    """A file that a device does without, and a step that takes too long."""
    monkeypatch.setitem(smoke_steps.LIMITS, BENCHMARK, 0.5)
    (directory / "decoder.0.float32.onnx").unlink()
    assert tried(directory, "--save", "a.json") == 2
    said = capsys.readouterr()
    steps = {step["name"]: step for step in json.loads(Path("a.json").read_text())["steps"]}
    assert "decoder.0.float32.onnx is missing" in steps[ON_CPU]["problem"]
    assert steps[BENCHMARK]["problem"] == "stopped after 0.5 s"
    assert [name for name, step in steps.items() if step["problem"]] == [ON_CPU, BENCHMARK]
    assert said.out.count("| FAILED |") == 2 and f"| {SECOND} | ok |" in said.out
    assert "smoke.py: 2 of 6 steps failed: answers on the CPU: " in said.err and "Traceback" not in said.err


@needs_rtx
def test_of_other_models_nothing_is_asked(directory, capsys, monkeypatch):
    monkeypatch.setattr(smoke_steps, "DEMO", "another")
    assert tried(directory) == 0
    assert capsys.readouterr().out.count("| left out | | | for the demo model alone |") == 2


@needs_rtx
def test_without_a_gpu_it_says_so(prepared, tmp_path):
    done = run(SMOKE, "--engine", prepared, cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == "" and list(tmp_path.iterdir()) == []
    assert done.stderr.count("\n") == 1 and "smoke.py: " in done.stderr and "no NVIDIA driver" in done.stderr


def test_bundles_for_other_devices_are_refused(bundle):
    done = run(SMOKE, "--engine", bundle)
    assert done.returncode == 2 and "for target host, and this tries an NVIDIA GPU" in done.stderr


def answer(text: str) -> dict[str, object]:
    return {"question": "What is it?", "text": text, "tokens": [len(text)]}


def test_answers_that_differ_are_named():
    good, bad = [answer("a"), answer("b")], [answer("a"), answer("c")]
    with pytest.raises(smoke_steps.Wrong, match="few logits: to 'What is it\\?' it says 'c', not 'b'"):
        smoke_steps._read_answers(json.dumps({FEW: bad, ALL: good}))
    with pytest.raises(smoke_steps.Wrong, match="^1 of 2 answers are the CPU's: .* it says 'c', not 'b'$") as wrong:
        smoke_steps._compared(bad, good)
    assert wrong.value.figures["same"] == 1


@pytest.mark.skipif(os.name != "posix", reason="groups of processes")
def test_a_step_that_takes_too_long_leaves_no_process_behind(tmp_path, monkeypatch):
    monkeypatch.setitem(smoke_steps.LIMITS, BENCHMARK, 5)
    code = (
        "import subprocess, sys, time; from pathlib import Path\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"Path({str(tmp_path / 'pid')!r}).write_text(str(child.pid)); time.sleep(600)"
    )
    found = run_step(BENCHMARK, ["-c", code], os.environ, lambda said: ({}, said))
    assert found.problem == "stopped after 5 s" and found.figures == {}
    status = Path(f"/proc/{(tmp_path / 'pid').read_text()}/stat")
    while status.exists() and status.read_text().split()[2] != "Z":  # a moment, until it is gone
        time.sleep(0.05)


def test_a_step_that_fails_is_told_by_its_last_line():
    for code, problem in (
        ("import sys; print('first', file=sys.stderr); sys.exit('reason')", "reason"),
        ("import sys; sys.exit(3)", "it ended with status 3"),
    ):
        assert run_step(VERIFY, ["-c", code], os.environ, None).problem == problem
