"""The published 1.7B size, from random weights to an answer, on this machine: minutes, so behind a mark."""

import json

import pytest

from mobilevlm.engines.targets import TARGETS
from mobilevlm.export.precision_option import default_precision
from tests.conftest import CHAT, ROOT, build, run


@pytest.mark.slow
def test_a_1_7b_bundle_builds_and_answers(tmp_path):
    done = build("--random-weights", "mobilevlm_v2_1.7b", out=tmp_path / "bundle", precision=None)
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "bundle" / "bundle.json").read_text())
    assert manifest["precision"] == default_precision(TARGETS["host"])
    assert manifest["num_image_tokens"] == 144 and manifest["model"]["hidden_size"] == 2048
    options = ["--image", ROOT / "assets" / "table.jpg", "--prompt", "What is on the table?", "--max-new-tokens", "8"]
    answer = json.loads(run(CHAT, "--engine", tmp_path / "bundle", *options, "--json").stdout)
    assert len(answer["tokens"]) == 8 and answer["answer"]
