"""Comparing a bundle with PyTorch where it runs: what is good, and what is not."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mobilevlm.engines.bundle import BundleError
from mobilevlm.engines.integrity import CHECKED_FILE
from mobilevlm.runtime import Session
from mobilevlm.runtime.self_check import Finding
from mobilevlm.runtime.verify import verify
from mobilevlm.text.prompt import IMAGE_TOKEN_INDEX
from tests.conftest import ROOT, run

VERIFY = ROOT / "runtime" / "verify.py"


def test_a_good_bundle(bundles):
    for directory in bundles.values():
        with Session(directory) as session:
            found, same, of = verify(session)
        assert [(one.stage, one.tensor, one.reference) for one in found] == [
            (stage, tensor, reference)
            for stage, tensor in (("vision", "image_embeds"), ("decoder", "first_logits"), ("decoder", "logits"))
            for reference in ("PyTorch", "the build")
        ]
        assert all(finding.is_good for finding in found) and same == of > 1


def test_one_that_computes_something_else(bundle_copy, monkeypatch):
    golden = load_file(bundle_copy / "golden.safetensors")
    golden["logits"] += 1
    save_file(golden, bundle_copy / "golden.safetensors")
    monkeypatch.setattr("mobilevlm.engines.bundle.check_files", lambda *_: None)
    with Session(bundle_copy, check=False) as session:
        found, _, _ = verify(session)
    assert [one.tensor for one in found if not one.is_good] == ["logits"]
    (bundle_copy / CHECKED_FILE).unlink(missing_ok=True)
    with pytest.raises(BundleError, match=r"computes something else here.*logits: .* dB against PyTorch, at least"):
        Session(bundle_copy)
    assert run(VERIFY, "--engine", bundle_copy).returncode == 2


def test_pytorch_is_followed_where_it_followed_another_answer(bundle_copy, monkeypatch):
    """A quantised decoder may have chosen other tokens than PyTorch, which was then asked what comes behind those."""
    monkeypatch.setattr("mobilevlm.engines.bundle.check_files", lambda *_: None)
    path = bundle_copy / "golden.safetensors"
    golden = load_file(path)
    assert golden["answer"].tolist() == golden["tokens"][:-1].tolist()  # float32 chose PyTorch's
    golden["answer"] = golden["answer"] + 1
    save_file(golden, path)
    with Session(bundle_copy, check=False) as session:
        found, *_ = verify(session)
        assert not all(one.is_good for one in found)
        decoder, ids = session.decoder, golden["input_ids"]
        embeds = golden["image_embeds"][0]
        rows = [embeds if token == IMAGE_TOKEN_INDEX else decoder.embed([int(token)]) for token in ids]
        prompt = np.concatenate([*rows, *(decoder.embed([int(token)]) for token in golden["answer"])])
        first = len(prompt) - len(golden["answer"])
        logits = [decoder.decode(prompt[:end], 0).copy() for end in range(first, len(prompt) + 1)]
        golden["logits"] = golden["built.logits"] = np.stack(logits)
        save_file(golden, path)
        found, *_ = verify(session)
        assert all(one.is_good for one in found)


def test_what_is_no_number_is_not_good():
    assert not Finding("decoder", "logits", "PyTorch", float("nan"), 1.0).is_good


def test_the_command(bundle):
    done = run(VERIFY, "--engine", bundle)
    assert done.returncode == 0 and "logits: " in done.stdout and "are PyTorch's" in done.stdout
    assert "int8 on" in done.stdout


@pytest.mark.parametrize("words", ([], ["--engine", "/nonexistent"]))
def test_what_is_wrong_is_said(words):
    assert run(VERIFY, *words).returncode == 2


@pytest.mark.parametrize("backend", ["ort", "tensorrt"])
def test_the_remedy_fits_the_target(backend, bundle, monkeypatch, capsys):
    """Kind: a remedy for another target, such as engines that a CPU's bundle does not have."""
    from mobilevlm.runtime import verify as command
    from mobilevlm.runtime.ort.runner import OrtRunner
    from mobilevlm.runtime.tensorrt.runner import TrtRunner

    if backend == "tensorrt":
        monkeypatch.setattr(OrtRunner, "remedy", TrtRunner.remedy)  # of a GPU, which is not here
    right = OrtRunner.encode_image
    monkeypatch.setattr(OrtRunner, "encode_image", lambda self, pixels: right(self, pixels) * 1.2)
    with pytest.raises(SystemExit) as ended:
        command.main(["--engine", str(bundle)])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and "computes something else here" in said
    for_engines = ".engine files and timing.cache" in said and "engines/compile.py" in said
    assert for_engines == (backend == "tensorrt") and ("--precision fp32" in said) == (backend == "ort")
