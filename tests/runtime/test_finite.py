"""NaN and infinity that a stage computes: named with the stage and the place, never sampled from, and not kept.

Issue 23, "API edges"; public kind: haotian-liu/LLaVA issues 780 and 886 (NaN as probabilities at inference), and
DAMO-NLP-SG/VCD issue 1 (an answer of chance tokens, and then NaN). The stages here are real ones whose results are
spoilt on their way out.
"""

from __future__ import annotations

import numpy as np
import pytest

from mobilevlm.engines.stages import EMBED_TOKENS_FILE
from mobilevlm.errors import UserError
from mobilevlm.runtime import Sampling, Session
from mobilevlm.runtime.finite import NotFiniteError
from mobilevlm.runtime.top_logits import TopLogits
from tests.conftest import ROOT
from tests.faults.test_device_faults import reseal

QUESTION, IMAGE = "What color is the circle?", ROOT / "assets" / "shapes.png"


@pytest.fixture(params=[0, 2**24], ids=["no prefixes", "prefixes"])
def session(request, demo_fp32):
    with Session(demo_fp32, prefix_cache_bytes=request.param) as session:
        yield session


def spoil(session, monkeypatch, name, change):
    """Change what the runner's `name` returns: change(result, number of the call)."""
    real, calls = getattr(session.decoder.runner, name), []

    def spoilt(*arguments):
        calls.append(arguments)
        return change(np.array(real(*arguments)), len(calls))

    monkeypatch.setattr(session.decoder.runner, name, spoilt)


def with_value(place, value, call=1):
    def change(result, number):
        if number == call:
            result[place] = value
        return result

    return change


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_image_embeds_that_are_not_finite(session, monkeypatch, value):
    alone = "".join(session.chat(QUESTION, IMAGE))
    session.decoder.forget()
    other = ROOT / "assets" / "table.jpg"
    with monkeypatch.context() as patch:
        spoil(session, patch, "encode_image", with_value((7, 3), value))
        for ask in (session.chat, lambda *rest: session.choose(rest[0], ["red", "blue"], rest[1])):
            with pytest.raises(NotFiniteError) as error:
                "".join(ask(QUESTION, other))
            spoil(session, patch, "encode_image", with_value((7, 3), value))
        message = str(error.value)
        assert "stage vision of" in message and "1 of 144 tokens of an image's image_embeds" in message
        assert "runtime/verify.py" in message and "--precision" in message
    assert "".join(session.chat(QUESTION, IMAGE)) == alone
    assert "".join(session.chat(QUESTION, other)), "the image was kept as it had been computed"


@pytest.mark.parametrize(
    ("value", "place", "what"),
    [(np.nan, 5, "NaN: 1 of"), (np.inf, 5, "infinity: 1 of"), (-np.inf, slice(None), "minus infinity: ")],
)
@pytest.mark.parametrize("call", [1, 3])
@pytest.mark.parametrize("sampling", [None, Sampling(temperature=1.0, seed=1)], ids=["greedy", "sampled"])
def test_logits_that_are_not_finite(demo_fp32, monkeypatch, value, place, what, call, sampling):
    with Session(demo_fp32) as session:
        alone = "".join(session.chat(QUESTION, sampling=sampling))
        session.decoder.forget()
        with monkeypatch.context() as patch:
            spoil(session, patch, "decode", with_value(place, value, call))
            reply = session.chat(QUESTION, sampling=sampling)
            with pytest.raises(NotFiniteError) as error:
                "".join(reply)
        where = "the first 43 tokens of the prompt" if call == 1 else "token 2 of the answer"
        count = len(session.decoder.prompt(reply._prompt.input_ids, []).keys)
        assert what in str(error.value) and where.replace("43", str(count)) in str(error.value)
        assert len(reply.tokens) == call - 1
        again = session.chat(QUESTION, sampling=sampling)
        assert "".join(again) == alone and again.statistics.reused_tokens == 0, "the kv cache was used again"


def test_logits_of_a_closed_question_that_are_not_finite(session, monkeypatch):
    """They became probabilities of NaN."""
    alone = session.choose(QUESTION, ["red", "blue"])
    session.decoder.forget()
    with monkeypatch.context() as patch:
        spoil(session, patch, "decode", with_value(5, np.nan))
        with pytest.raises(NotFiniteError, match="computed NaN"):
            session.choose(QUESTION, ["red", "blue"])
    assert session.choose(QUESTION, ["red", "blue"]).probabilities == pytest.approx(alone.probabilities)


def test_image_embeds_on_a_device_are_found_by_the_logits(demo_fp32, monkeypatch):
    class OnDevice:
        """Embeddings that numpy has to ask for, and logits of which the largest alone come back."""

        def __init__(self, rows):
            self.rows = rows

        def __len__(self):
            return len(self.rows)

        def __getitem__(self, tokens):
            return self.rows[tokens]

        def __array__(self, dtype=None, copy=None):
            return self.rows

    with Session(demo_fp32) as session:
        real = session.decoder.runner.decode

        def largest(embeds, past):
            logits = np.array(real(embeds, past))
            top = np.argsort(-logits)[:8]
            return TopLogits(top, logits[top], len(logits), lambda: logits)

        monkeypatch.setattr(session.decoder.runner, "decode", largest)
        spoil(session, monkeypatch, "encode_image", lambda rows, _: OnDevice(rows * np.float32(np.nan)))
        with pytest.raises(NotFiniteError, match="stage vision of .* 144 of 144 tokens"):
            "".join(session.chat(QUESTION, IMAGE))
        assert "".join(session.chat(QUESTION, max_new_tokens=3))


def test_an_embedding_of_text_that_is_not_finite(bundle_copy):
    with Session(bundle_copy) as session:
        token = session.tokenizer.encode(["circle"])[-1]
        plain = "".join(session.chat("Hi", max_new_tokens=3))
    table = np.load(bundle_copy / EMBED_TOKENS_FILE, mmap_mode="r+")
    table[token, 3] = np.inf
    table.flush()
    reseal(bundle_copy)
    with Session(bundle_copy, check=False) as session:
        with pytest.raises(UserError, match=rf"stage {EMBED_TOKENS_FILE} of .* the embedding of token {token}\b"):
            session.chat("circle")
        assert "".join(session.chat("Hi", max_new_tokens=3)) == plain
