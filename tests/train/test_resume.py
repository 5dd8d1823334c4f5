"""Runs that are killed, split over processes, or told to go on: the same weights come out."""

import json
import shutil
import signal
import time

import pytest
import torch

from mobilevlm.checkpoint.tensors import open_directory, open_file
from mobilevlm.train.run import newest_checkpoint
from tests.train.conftest import LLM, TOWER, losses, refusal, start, train_here

RUN = ("--model", LLM, "--vision-tower", TOWER, "--num-train-epochs", 4, "--save-total-limit", 9)
# On a machine without GPUs `--cpu` starts one process, whatever `--num_processes` says; this starts two, on gloo.
LAUNCH = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1")
LAUNCH += ("--mixed_precision", "no", "--dynamo_backend", "no")


def finish(process):
    try:
        output, _ = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def unbroken(data, tmp_path_factory):
    """A run of 24 steps over mixed rows by one process, in batches of 2, two of them a step."""
    out = tmp_path_factory.mktemp("runs") / "unbroken"
    output = finish(start("v2_stage2", data["mixed"], out, *RUN))
    assert "tokens/s" in output and "MiB" in output
    assert len(losses(out)) == 24
    return out


def test_a_killed_run_resumes_to_the_same_weights(unbroken, data, tmp_path):
    """SIGKILL in the middle, and a checkpoint that is half written: weights and loss curve are the same to the bit."""
    out = tmp_path / "killed"
    process = start("v2_stage2", data["mixed"], out, *RUN)
    deadline = time.monotonic() + 120
    while not (out / "checkpoint-8" / "trainer_state.json").is_file():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (out / "model.safetensors").exists()
    newest = newest_checkpoint(out)
    half = out / "checkpoint-23"
    shutil.copytree(newest, half)
    (half / "trainer_state.json").write_text('{"global_step": 23, "log_his')
    assert f"resuming from {newest}" in finish(start("v2_stage2", data["mixed"], out, *RUN))
    assert losses(out) == losses(unbroken)
    ours, theirs = open_directory(out), open_directory(unbroken)
    assert set(ours) == set(theirs)
    for name in theirs:
        assert torch.equal(ours[name], theirs[name]), name


@pytest.mark.parametrize("parallel", ["none", "fsdp"])
def test_two_processes_learn_what_one_does(parallel, unbroken, data, tmp_path):
    """Each takes one of the two batches of a step: losses to 1e-5 relative, weights to 1e-5 (sums in another order).

    With FSDP each holds half of the weights; and the run goes on from a checkpoint that they wrote together.
    """
    out, options = tmp_path / "two", (*RUN, "--parallel", parallel)
    output = finish(start("v2_stage2", data["mixed"], out, *options, launcher=LAUNCH))
    assert output.count("tokens/s") == 1
    if parallel == "fsdp":
        assert (out / "checkpoint-24" / "pytorch_model_fsdp.bin").is_file()  # nobody but FSDP writes this
        (out / "train_summary.json").unlink()
        for path in (out / "model.safetensors", *out.glob("checkpoint-2*")):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        output = finish(start("v2_stage2", data["mixed"], out, *options, launcher=LAUNCH))
        assert "resuming from" in output
    assert losses(out) == pytest.approx(losses(unbroken), rel=1e-5)
    ours, theirs = open_directory(out), open_directory(unbroken)
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-5, rtol=0)
    summary = json.loads((out / "train_summary.json").read_text())
    assert summary["processes"] == 2
    alone = json.loads((unbroken / "train_summary.json").read_text())
    if parallel == "none":  # the other has gone on in the middle
        assert (summary["samples"], summary["tokens"]) == (alone["samples"], alone["tokens"])


@pytest.mark.parametrize("recipe", ["v1_stage1", "v1_lora_1.7b"])
def test_projector_and_lora_resume_to_the_same_weights(recipe, data, tmp_path):
    """In the middle of the second epoch; a LoRA has dropout, so the random numbers have to go on too."""
    pytest.importorskip("peft")
    options = ("--model", LLM, "--vision-tower", TOWER, "--num-train-epochs", 3, "--save-total-limit", 9)
    options += ("--save-steps", 1, "--lora-r", 4, "--lora-alpha", 8)
    train_here(recipe, data["pictures"], tmp_path / "whole", *options)
    broken = tmp_path / "broken"
    shutil.copytree(tmp_path / "whole", broken)
    for name in ("train_summary.json", "checkpoint-4", "checkpoint-5", "checkpoint-6"):
        path = broken / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    train_here(recipe, data["pictures"], broken, *options)
    assert losses(broken) == losses(tmp_path / "whole")
    files = [path.name for path in broken.glob("*.bin") if path.name != "training_args.bin"]
    assert files
    for name in files:
        ours, theirs = open_file(broken / name), open_file(tmp_path / "whole" / name)
        for key in theirs:
            assert torch.equal(ours[key], theirs[key]), key


def test_a_finished_run_is_not_run_again(unbroken, data, capsys):
    before = (unbroken / "model.safetensors").stat().st_mtime_ns
    train_here("v2_stage2", data["mixed"], unbroken, *RUN)
    assert "is finished" in capsys.readouterr().out
    assert (unbroken / "model.safetensors").stat().st_mtime_ns == before


def test_another_run_does_not_go_into_its_directory(unbroken, data):
    said = refusal("v2_stage1", data["mixed"], unbroken, *RUN)
    assert "holds a run of recipe v2_stage2, this is v2_stage1" in said
    assert "learning_rate is 4e-05 there and 2e-05 here" in said
    assert "data is" in refusal("v2_stage2", data["pictures"], unbroken, *RUN)
