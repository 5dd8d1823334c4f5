"""What kills at random moments once left in a bad state, each kind by name, and a slice of `tests.faults.kills`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from mobilevlm import MobileVLM
from mobilevlm.atomic_file import ABANDONED, write_whole
from mobilevlm.checkpoint.checkpoint import open_checkpoint
from mobilevlm.engines import trust
from mobilevlm.engines.bundle import Bundle, BundleError, amend_manifest
from mobilevlm.engines.minisign_key import read_secret_key
from mobilevlm.engines.stages import NEXT_SIGNATURE_FILE
from mobilevlm.engines.trust import sign_bundle
from mobilevlm.train.merge_lora import merge, parser
from mobilevlm.train.run import RUN_FILE, newest_checkpoint
from tests.conftest import GOLDEN, ROOT
from tests.faults.kill_jobs import MODEL, jobs
from tests.faults.kills import FAILED, KILLED, run_kills
from tests.faults.signing import KEY_FILES
from tests.train.conftest import LLM, TOWER, row, train_here

LORA = GOLDEN / "lora_v1"


class Killed(BaseException):
    """Stands for SIGKILL: nothing may catch it."""


def dies(*_: object) -> None:
    raise Killed


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
@pytest.mark.slow
def test_some_kills_of_every_job():
    """Issue 23, "SIGKILL at random moments"; `bash run.sh faults` does the same for hours."""
    found = run_kills(jobs(), seed=int(time.time()), minutes=0, count=3)
    assert not any(one[FAILED] for one in found.values()), "see above for the commands that repeat it"
    assert sum(one[KILLED] for one in found.values()) > len(found)


@pytest.mark.parametrize("step", ["write_whole", "replace"])
def test_a_signed_bundle_stays_one_while_its_manifest_is_replaced(step, bundle_copy, tmp_path, monkeypatch):
    """Kind: killed between manifest and signature, a bundle was refused by --trust, also by the same command again."""
    pytest.importorskip("cryptography")
    for name, text in KEY_FILES.items():
        (tmp_path / name).write_text(text)
    key, public = read_secret_key(tmp_path / "ours.key"), tmp_path / "ours.pub"
    sign_bundle(bundle_copy, key)
    choices = {"temperature": 2.0, "abstain": 0.0, "fitted_on": 5}

    def writes_one(path, content, *options):
        write_whole(path, content, *options)
        if path.name == {"write_whole": NEXT_SIGNATURE_FILE, "replace": "bundle.json"}[step]:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(trust, "write_whole", writes_one)
        amend_manifest(bundle_copy, Bundle.open(bundle_copy).manifest, [], choices=choices, key=key)
    opened = Bundle.open(bundle_copy, trust=public)
    assert opened.manifest.choices == ({} if step == "write_whole" else choices)
    with pytest.raises(BundleError, match="is trusted|not belong"):
        Bundle.open(bundle_copy, trust=tmp_path / "other.pub")
    amend_manifest(bundle_copy, opened.manifest, [], choices=choices, key=key)
    assert Bundle.open(bundle_copy, trust=public).manifest.choices == choices
    assert not (bundle_copy / NEXT_SIGNATURE_FILE).exists()


def test_a_killed_merge_leaves_nothing_at_its_output(tmp_path, monkeypatch):
    """Kind: half a checkpoint at OUT, where the same command refused to go on."""
    from mobilevlm.model import model

    arguments = parser().parse_args([str(LORA / "base"), str(LORA / "lora"), str(tmp_path / "out")])
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(model, "write_description", dies)
        merge(arguments)
    assert not (tmp_path / "out").exists()
    merge(arguments)
    assert (tmp_path / "out" / "config.json").is_file() and [path.name for path in tmp_path.iterdir()] == ["out"]


def test_weights_come_behind_what_they_need(tmp_path, monkeypatch):
    """Kind: killed while it saved, a training run left weights whose vision tower's files were not there yet."""
    from transformers import PreTrainedModel

    model = MobileVLM.from_pretrained(MODEL)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(PreTrainedModel, "save_pretrained", dies)
        model.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))
    shutil.copyfile(MODEL / "model.safetensors", tmp_path / "model.safetensors")
    assert open_checkpoint(tmp_path).config.tower.image_size == 336


def test_temporary_files_of_killed_processes_are_removed(tmp_path):
    """Kind: `.checked.json.1234.partial` stayed for ever; those of living or recent writers stay."""
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    dead, alive = int(gone.stdout), os.getppid()
    old, recent, running, other = (
        tmp_path / name
        for name in (f"a.{dead}.partial", f"a.{dead}0.partial", f"a.{alive}.partial", f"b.{dead}.partial")
    )
    for path in (old, recent, running, other):
        path.write_text("half")
        if path != recent:
            os.utime(path, (time.time() - 2 * ABANDONED,) * 2)
    write_whole(tmp_path / "a", b"whole", shared=True)
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "a", recent, running, other])


def test_a_run_that_was_killed_at_its_beginning_begins_again(tmp_path):
    """Kind: the folder with `run.json.partial` alone was refused as no run."""
    out = tmp_path / "out"
    out.mkdir()
    (out / f"{RUN_FILE}.partial").write_text("{")
    (tmp_path / "rows.json").write_text(json.dumps([row(number, None) for number in range(8)]))
    train_here("v2_stage2", tmp_path / "rows.json", out, "--model", LLM, "--vision-tower", TOWER, "--max-steps", 4)
    assert newest_checkpoint(out) == out / "checkpoint-4" and not list(out.glob("*.partial"))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells of a parent's end on Linux alone")
def test_a_worker_ends_with_the_command_that_started_it():
    """Kind: killed, `engines/compile.py` left a worker that wrote an engine which the next run had already noted."""
    parent = f"""
import subprocess, sys, time
worker = "import sys; sys.path.insert(0, {str(ROOT)!r}); import time; "
worker += "from mobilevlm.engines.tensorrt.worker import _end_with_parent; _end_with_parent(); print(1, flush=True); "
child = subprocess.Popen([sys.executable, "-c", worker + "time.sleep(60)"], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        worker = int(process.stdout.readline())
        process.kill()
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        if open(f"/proc/{worker}/stat").read().rsplit(")", 1)[1].split()[0] == "Z":
            return  # its new parent has not asked for its status yet
        time.sleep(0.05)
    os.kill(worker, 9)
    pytest.fail("it lives on")
