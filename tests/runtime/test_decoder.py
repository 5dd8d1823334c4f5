"""The stages behind a session's public door, and the look-up of the runner that a bundle needs."""

from __future__ import annotations

import ast
import inspect
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest

from mobilevlm.engines.bundle import Bundle, BundleError
from mobilevlm.engines.targets import TARGETS
from mobilevlm.errors import UserError
from mobilevlm.runtime import Session, runner
from mobilevlm.runtime.embeddings import Embeddings
from mobilevlm.runtime.top_logits import TopLogits
from tests.conftest import ROOT

QUESTION = "What is in the picture?"


@pytest.fixture(scope="module")
def session(bundles):
    with Session(bundles["v1_ldpnet_112"]) as session:
        yield session


def test_a_stage_that_is_run_in_between_leaves_no_wrong_cache(session):
    first = session.chat(QUESTION, max_new_tokens=6)
    text = "".join(first)
    session.decoder.decode(session.decoder.embed([7, 8, 9]), 0)
    again = session.chat(QUESTION, max_new_tokens=6)
    assert "".join(again) == text and again.statistics.reused_tokens == 0
    third = session.chat(QUESTION, max_new_tokens=6)
    assert "".join(third) == text and third.statistics.reused_tokens == third.statistics.prompt_tokens - 1


@pytest.mark.parametrize("stage", ("decode", "prefill"))
def test_an_answer_does_not_go_on_behind_another_cache(stage, session):
    pieces = iter(session.chat(QUESTION, max_new_tokens=12))
    next(pieces)
    getattr(session.decoder, stage)(session.decoder.embed([7]), 0)
    with pytest.raises(UserError, match="another answer was begun"):
        list(pieces)


def test_a_prompt_in_pieces_is_the_prompt(session):
    decoder = session.decoder
    size = session.config.vision.image_size
    image = decoder.encode_image(np.random.default_rng(0).normal(size=(1, 3, size, size)).astype(np.float32))
    embeds = decoder.splice([1, 5, -200, 9, 7], iter([image]))
    assert isinstance(embeds, Embeddings) and len(embeds) == 4 + len(image)
    assert (np.asarray(embeds)[2 : 2 + len(image)] == np.asarray(image)).all()
    whole = np.array(decoder.decode(embeds, 0))
    decoder.decode(embeds[:3], 0)
    assert np.abs(np.array(decoder.decode(embeds[3:], 3)) - whole).max() < 1e-3


def test_all_logits_where_a_device_returns_the_largest(session, monkeypatch):
    decoder, logits = session.decoder, np.array([1.0, 3.0, 2.0], np.float32)
    few = TopLogits(np.array([1, 2]), logits[[1, 2]], 3, lambda: logits)
    monkeypatch.setattr(decoder.runner, "decode", lambda inputs_embeds, past: few)
    assert decoder.decode(decoder.embed([7]), 0) is few
    monkeypatch.setattr(decoder, "full_logits", True)
    assert decoder.decode(decoder.embed([7]), 0) is logits
    copied = np.array(few)
    assert (copied == logits).all() and not np.shares_memory(copied, logits)


def test_every_target_has_a_runner():
    """A backend's runner is found by its name: a folder with a runner.py, which opens a bundle."""
    for backend in {target.backend for target in TARGETS.values()}:
        opener = import_module(f"mobilevlm.runtime.{backend}.runner").open_runner
        assert list(inspect.signature(opener).parameters) == ["bundle", "profile_to", "on_cpu"]
        assert inspect.signature(opener).return_annotation == "Runner"


def test_another_versions_target_is_refused_with_the_command(bundles):
    bundle = Bundle.open(bundles["v1_ldpnet_112"])
    newer = replace(bundle, manifest=replace(bundle.manifest, target="another-device"))
    with pytest.raises(BundleError, match=r"target another-device, which .*build_engines.py --model DIR --target host"):
        runner.open_runner(newer)


def test_no_backend_is_asked_for_by_name():
    """What differs from backend to backend is in its folder."""
    found = []
    for path in sorted((ROOT / "runtime").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            asked = isinstance(node, ast.Compare) and any(
                isinstance(side, ast.Attribute) and side.attr == "backend" for side in (node.left, *node.comparators)
            )
            if asked:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert found == []
