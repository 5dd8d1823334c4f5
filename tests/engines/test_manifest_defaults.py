"""Bundles whose manifests note no forms of stages, as all did until format 1 got them, open and answer as they did."""

import json
from pathlib import Path

import pytest

from mobilevlm.engines.bundle import Bundle, BundleError, amend_manifest, seal_of
from mobilevlm.engines.stage_form import FP32, INT8, StageForm
from mobilevlm.runtime import Session
from tests.conftest import ROOT

# Written by the version before, for the demo model and the host's default precisions; names of files are left out.
OLD = json.loads((Path(__file__).parent / "manifest_without_forms.json").read_text())


def write(directory: Path, manifest: dict) -> Path:
    """A sealed manifest in a directory."""
    (directory / "bundle.json").write_text(json.dumps(manifest | {"seal": seal_of(manifest)}))
    return directory


def test_an_old_manifest_has_the_forms_of_its_precisions(tmp_path):
    bundle = Bundle.open(write(tmp_path, OLD))
    int4 = 0.5 + 4.5 / 128
    assert bundle.manifest.forms == {
        "vision": StageForm(INT8, FP32, 1, 1, "int8", quantized=True),
        "prefill": StageForm(INT8, FP32, 1, 1, "int8", quantized=True, layers_per_file=2),
        "decoder": StageForm(INT8, FP32, int4, int4, "int8", quantized=True),
    }
    amended = amend_manifest(tmp_path, bundle.manifest, [])  # as compiling does
    assert Bundle.open(tmp_path).manifest == amended
    assert json.loads((tmp_path / "bundle.json").read_text())["forms"]["prefill"]["layers_per_file"] == 2


def test_a_strange_form_is_refused_with_the_command_that_rebuilds(tmp_path):
    for forms in ({"vision": {"kind": "int8"}}, {"vision": 5}):
        with pytest.raises(BundleError, match=r"bundle\.json cannot be read.*build it: python export/build_engines.py"):
            Bundle.open(write(tmp_path, OLD | {"forms": forms}))
    with pytest.raises(BundleError, match="how vision=int2 is run"):
        Bundle.open(write(tmp_path, OLD | {"precision": {"vision": "int2"}}))


def test_a_bundle_without_forms_answers_alike(bundle, bundle_copy):
    manifest = json.loads((bundle_copy / "bundle.json").read_text())
    noted = manifest.pop("forms")
    assert set(noted) == set(manifest["precision"])
    replies = []
    for directory in (bundle, write(bundle_copy, {key: manifest[key] for key in manifest if key != "seal"})):
        with Session(directory) as session:
            reply = session.chat("What is it?", ROOT / "assets" / "table.jpg", max_new_tokens=8)
            replies.append(("".join(reply), reply.tokens))
    assert replies[0] == replies[1]
    assert Bundle.open(bundle_copy).manifest.forms == Bundle.open(bundle).manifest.forms
