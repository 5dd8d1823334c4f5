"""A bundle whose files were altered, and its manifest with them, is refused by the check at its first opening."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mobilevlm.engines.bundle import BundleError, seal_of
from mobilevlm.engines.integrity import CHECKED_FILE, SEEN_FILE
from mobilevlm.engines.stages import MANIFEST_FILE, PREFILL
from mobilevlm.runtime import Session
from tests.conftest import DEMO, build
from tests.faults.inject import Fault, StageFiles, graph_faults, weight_faults

FORMS = {
    "fp32": ("host", "fp32"),
    "fp16": ("host", "fp16"),
    "int8": ("host", "int8"),
    "default": ("host", "vision=int8,prefill=int8,decoder=int4"),
    "snapdragon-cpu": ("snapdragon-cpu", "vision=int8,decoder=int4_symmetric"),
}
QUICK = ("default",)
FAULTS = 200


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Callable[[str], Path]:
    kept: dict[str, Path] = {}

    def make(form: str) -> Path:
        if form not in kept:
            target, precision = FORMS[form]
            out = tmp_path_factory.mktemp(form) / "bundle"
            done = build("--model", DEMO, "--target", target, "--precision", precision, out=out)
            assert done.returncode == 0, done.stderr
            kept[form] = out
        return kept[form]

    return make


def reseal(directory: Path) -> None:
    """What a hand that alters files can do, too: sizes, hashes and seal of what is there now."""
    path = directory / MANIFEST_FILE
    manifest = json.loads(path.read_text())
    for name, record in manifest["files"].items():
        content = (directory / name).read_bytes()
        record.update(size=len(content), sha256=hashlib.sha256(content).hexdigest())
    manifest["seal"] = seal_of(manifest)
    path.write_text(json.dumps(manifest))
    for name in (SEEN_FILE, CHECKED_FILE):
        (directory / name).unlink(missing_ok=True)


def is_refused(bundle: Path, fault: Fault) -> None:
    reseal(bundle)
    with pytest.raises(BundleError, match="computes something else here"):
        Session(bundle).close()
        pytest.fail(f"not caught: {fault}")


def faults_are_refused(bundle: Path, rng: np.random.Generator, count: int | None) -> int:
    """Inject so many faults, None for one of each kind in each graph."""
    graphs = [StageFiles(path, path.name.split(".")[0]) for path in sorted(bundle.glob("*.onnx"))]
    kinds = [(files, kind, weight_faults) for files in graphs for kind in weight_faults(files, rng)]
    kinds += [(files, kind, graph_faults) for files in graphs for kind in graph_faults(files, rng)]
    chosen = kinds if count is None else [kinds[number % len(kinds)] for number in range(count)]
    for files, kind, faults in chosen:
        name, change = faults(files, rng)[kind]()
        with files.changed(name, change) if faults is weight_faults else files.rewritten(change):
            is_refused(bundle, Fault(kind, name, files.stage))
    reseal(bundle)
    Session(bundle).close()  # mended
    return len(chosen)


@pytest.mark.parametrize("form", QUICK)
def test_a_fault_of_each_kind_is_refused(form, made, tmp_path):
    bundle = shutil.copytree(made(form), tmp_path / "bundle")
    assert faults_are_refused(bundle, np.random.default_rng(4), None) > 20


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_two_hundred_faults_are_refused(form, made, tmp_path):
    bundle = shutil.copytree(made(form), tmp_path / "bundle")
    assert faults_are_refused(bundle, np.random.default_rng(5), FAULTS) == FAULTS


@pytest.mark.parametrize("stage", ["first", "later"])
def test_a_stale_cache_row_is_refused(stage, made, monkeypatch, tmp_path):
    """A runtime that leaves a row of the kv cache as it was, in the prefill or in a step."""
    from mobilevlm.runtime.ort import prefill
    from mobilevlm.runtime.ort import runner as ort

    bundle = shutil.copytree(made("default"), tmp_path / "bundle")
    (bundle / CHECKED_FILE).unlink(missing_ok=True)
    assert PREFILL in json.loads((bundle / MANIFEST_FILE).read_text())["precision"]
    if stage == "first":
        right = prefill.write_rows

        def wrong(buffer: np.ndarray, past: int, rows: np.ndarray) -> None:
            right(buffer, past, rows)
            buffer[:, :, past + 3] = buffer[:, :, past + 2]

        monkeypatch.setattr(prefill, "write_rows", wrong)
    else:
        run = ort.OrtRunner.decode

        def stale(self, inputs_embeds: np.ndarray, past: int) -> np.ndarray:
            logits = run(self, inputs_embeds, past)
            if len(inputs_embeds) == 1:
                key = next(iter(self._buffers))
                self._buffers[key][:, :, past] = self._buffers[key][:, :, past - 1]
            return logits

        monkeypatch.setattr(ort.OrtRunner, "decode", stale)
    with pytest.raises(BundleError, match="computes something else here"):
        Session(bundle).close()
