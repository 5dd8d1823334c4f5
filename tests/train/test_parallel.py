"""ZeRO on CPUs, without accelerate, which knows it for GPUs only. FSDP is in test_resume.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize("stage", [2, 3])
def test_two_processes_with_zero_learn_what_one_does(stage, tmp_path):
    """By the recipes' own files, one process with a picture and one without: losses to 1e-4 relative."""
    pytest.importorskip("deepspeed", reason="DeepSpeed is an extra of those who train on several GPUs")
    result = tmp_path / "result.json"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    # DeepSpeed compiles a small extension the first time, with the ninja beside Python.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [*launcher, "-m", "tests.train.zero_worker", str(stage), str(result)],
        cwd=ROOT,
        env=os.environ | {"PATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(result.read_text())
    assert found["divided"] == pytest.approx(found["alone"], rel=1e-4)
    assert found["alone"][-1] < found["alone"][0]
    assert (found["held"] < found["whole"] / 2) is (stage == 3)  # between uses ZeRO-3 leaves nothing in place
