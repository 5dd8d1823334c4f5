"""The check at a bundle's first opening: once on a machine, again when something changes, and what it refuses."""

from __future__ import annotations

import json

import pytest

from mobilevlm.engines import bundle as bundles_module
from mobilevlm.engines.bundle import BundleError, seal_of
from mobilevlm.engines.integrity import CHECKED_FILE
from mobilevlm.runtime import Session, verdicts
from tests.conftest import CHAT, ROOT, run

WORDS = ["--image", ROOT / "assets" / "shapes.png", "--prompt", "What color is the circle?", "--max-new-tokens", "2"]


@pytest.fixture
def ran(monkeypatch) -> list:
    """Gets an entry each time that a sample is run."""
    times, run_sample = [], verdicts.run_sample

    def counted(*arguments):
        times.append(arguments)
        return run_sample(*arguments)

    monkeypatch.setattr(verdicts, "run_sample", counted)
    return times


def test_once_on_a_machine_and_silent_afterwards(bundle_copy, ran):
    (bundle_copy / CHECKED_FILE).unlink(missing_ok=True)
    for _ in range(3):
        Session(bundle_copy).close()
    assert len(ran) == 1 and len(json.loads((bundle_copy / CHECKED_FILE).read_text())) == 1


@pytest.mark.parametrize("changed", ["cpu", "onnxruntime", "cores"])
def test_again_when_the_machine_changes(changed, bundle_copy, ran, monkeypatch):
    from mobilevlm.runtime import self_check

    (bundle_copy / CHECKED_FILE).unlink(missing_ok=True)
    Session(bundle_copy).close()
    here = verdicts.fingerprint()
    other = here | {changed: "another"}
    for module in (verdicts, self_check):
        monkeypatch.setattr(module, "fingerprint", lambda: other)
    Session(bundle_copy).close()
    Session(bundle_copy).close()
    assert len(ran) == 2
    for module in (verdicts, self_check):  # back on the first machine, which shares the disk
        monkeypatch.setattr(module, "fingerprint", lambda: here)
    Session(bundle_copy).close()
    assert len(ran) == 2


def test_not_at_all_when_told(bundle_copy, ran):
    (bundle_copy / CHECKED_FILE).unlink(missing_ok=True)
    Session(bundle_copy, check=False).close()
    assert not ran and not (bundle_copy / CHECKED_FILE).exists()


def test_a_bundle_that_cannot_be_written_to_is_remembered_elsewhere(bundle_copy, ran, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (bundle_copy / CHECKED_FILE).unlink(missing_ok=True)
    (bundle_copy / CHECKED_FILE).mkdir()  # nothing can be put in its place, by root either
    Session(bundle_copy).close()
    Session(bundle_copy).close()
    assert len(ran) == 1 and list((tmp_path / "cache" / "mobilevlm" / "checked").glob("*.json"))


@pytest.mark.parametrize("content", ["", "{", "[1, {}, null]", "[" * 100000, '{"a": 1}', "\x00\xff"])
def test_a_damaged_memory_is_forgotten(content, bundle_copy, ran):
    (bundle_copy / CHECKED_FILE).write_bytes(content.encode("latin-1"))
    Session(bundle_copy).close()
    Session(bundle_copy).close()
    assert len(ran) == 1


def test_a_refusal_is_not_remembered_and_names_cause_and_remedy(bundle_copy, ran, monkeypatch):
    """A machine of another kind, whose products are wrong: figures, both machines, and what to do."""
    from mobilevlm.runtime import self_check
    from mobilevlm.runtime.ort.runner import OrtRunner

    (bundle_copy / CHECKED_FILE).unlink(missing_ok=True)
    path = bundle_copy / "bundle.json"
    manifest = json.loads(path.read_text())
    manifest["machine"]["cpu"], manifest["versions"]["onnxruntime"] = "x86_64 another", "1.99"
    manifest["machine"]["onnxruntime"] = "1.99"
    manifest["seal"] = seal_of(manifest)
    path.write_text(json.dumps(manifest))
    right = OrtRunner.encode_image
    monkeypatch.setattr(OrtRunner, "encode_image", lambda self, pixels: right(self, pixels) * 1.2)
    assert self_check.differences(manifest["machine"]).keys() == {"cpu", "onnxruntime"}
    for _ in range(2):
        with pytest.raises(BundleError) as refused:
            Session(bundle_copy)
        text = str(refused.value)
        assert "stage vision, image_embeds: 14.0 dB against PyTorch, at least" in text
        assert "cpu was x86_64 another, here" in text and "pip install onnxruntime==1.99" in text
        assert manifest["command"] in text and "--precision fp32" in text and "--no-check" in text
    assert len(ran) == 2 and not (bundle_copy / CHECKED_FILE).exists()


def test_the_command_line_says_what_it_checks_and_can_do_without(bundle_copy):
    (bundle_copy / CHECKED_FILE).unlink(missing_ok=True)
    plain, verbose = (run(CHAT, "--engine", bundle_copy, *WORDS, *more) for more in (["--no-check"], ["--verbose"]))
    assert plain.returncode == verbose.returncode == 0 and plain.stdout == verbose.stdout
    assert "int8 on" in verbose.stderr and "stage vision against PyTorch, at the build:" in verbose.stderr
    assert "int8 on" not in plain.stderr


def test_an_older_bundle_is_compared_with_what_its_build_noted(bundle_copy, ran, monkeypatch):
    """No floors, no outputs of its own, no machine: decibels against PyTorch, 10 fewer."""
    from safetensors.numpy import load_file, save_file

    monkeypatch.setattr(bundles_module, "check_files", lambda *_: None)
    golden = load_file(bundle_copy / "golden.safetensors")
    save_file(
        {name: value for name, value in golden.items() if not name.startswith(("built.", "first_"))},
        bundle_copy / "golden.safetensors",
    )
    path = bundle_copy / "bundle.json"
    manifest = json.loads(path.read_text())
    del manifest["machine"]
    for stage in [one for one in manifest["verification"] if one.endswith(".form")]:
        del manifest["verification"][stage]
    for tensors in manifest["verification"].values():
        for one in tensors.values():
            del one["floor_db"]
    manifest["seal"] = seal_of(manifest)
    path.write_text(json.dumps(manifest))
    (bundle_copy / CHECKED_FILE).unlink(missing_ok=True)
    Session(bundle_copy).close()
    from mobilevlm.runtime.ort.runner import OrtRunner

    right = OrtRunner.encode_image
    monkeypatch.setattr(OrtRunner, "encode_image", lambda self, pixels: right(self, pixels) * 1.2)
    (bundle_copy / CHECKED_FILE).unlink()
    with pytest.raises(BundleError, match="computes something else here"):
        Session(bundle_copy)
