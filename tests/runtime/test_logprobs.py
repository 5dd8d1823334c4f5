"""Log-probabilities of an answer's tokens, against transformers' `generate` and PyTorch's log_softmax of the model."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from mobilevlm import MobileVLM
from mobilevlm.errors import UserError
from mobilevlm.image import ImageSpec, load_image, preprocess
from mobilevlm.runtime import Sampling, Session
from mobilevlm.runtime.answer_options import AnswerOptions
from mobilevlm.runtime.logprobs import token_logprob
from mobilevlm.text.prompt import Conversation, template
from tests.conftest import DEMO, ROOT

PHOTO = ROOT / "assets" / "table.jpg"
TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def session(demo_fp32):
    with Session(demo_fp32) as session:
        yield session


@pytest.fixture(scope="module")
def model():
    return MobileVLM.from_pretrained(DEMO).float().eval()


def conversation(images=1):
    asked = Conversation(template("v1"))
    asked.ask("What is in the picture?", images)
    return asked


def answered(session, options, images=1):
    pixels = [session.read_image(PHOTO)] * images
    reply = session.reply(conversation(images), pixels, options, time.perf_counter())
    "".join(reply)
    return reply


@pytest.mark.parametrize("sampling", (Sampling(), Sampling(temperature=1.2, top_k=40, seed=3)))
def test_they_are_those_of_transformers_generate(session, model, sampling):
    """`output_logits` of the tokens that the session chose, forced one after the other, before temperature and cuts."""
    reply = answered(session, AnswerOptions(sampling, 12, top_logprobs=20))
    ids = torch.tensor([model.tokenizer.encode(conversation().segments())])
    pixels = torch.from_numpy(preprocess(load_image(PHOTO), ImageSpec.of(model.config.model_config)))
    made = model.generate(
        ids,
        images=pixels,
        max_new_tokens=len(reply.tokens),
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
        prefix_allowed_tokens_fn=lambda _, sequence: [reply.tokens[len(sequence)]],
    )
    assert made.sequences[0].tolist() == reply.tokens == [one.token for one in reply.logprobs]
    for entry, logits in zip(reply.logprobs, made.logits, strict=True):
        expected = torch.log_softmax(logits[0].double(), -1)
        assert entry.logprob == pytest.approx(float(expected[entry.token]), abs=TOLERANCE)
        values, _ = expected.topk(20)
        assert np.abs(np.array([value for _, value in entry.top]) - values.numpy()).max() < TOLERANCE
        assert all(abs(float(expected[token]) - value) < TOLERANCE for token, value in entry.top)


@pytest.mark.parametrize("count", (0, 1, 20))
def test_as_many_of_the_likeliest_as_were_asked_for(session, count):
    reply = answered(session, AnswerOptions(max_new_tokens=5, top_logprobs=count), images=0)
    assert len(reply.logprobs) == len(reply.tokens)
    for entry in reply.logprobs:
        assert len(entry.top) == count and [*entry.top] == sorted(entry.top, key=lambda one: -one[1])
        assert count == 0 or entry.top[0] == (entry.token, entry.logprob)  # greedy: the likeliest


def test_none_are_noted_unless_asked_for(session):
    assert answered(session, AnswerOptions(max_new_tokens=3), images=0).logprobs == []


@pytest.mark.parametrize("count", (-1, 21))
def test_a_number_outside_the_range_is_refused(count):
    with pytest.raises(UserError, match=f"top_logprobs is {count}; it has to be 0 to 20"):
        AnswerOptions(top_logprobs=count)


def test_tokens_that_a_constraint_rules_out_are_not_among_the_likeliest(session):
    """Their logarithm is minus infinity, which JSON cannot say."""
    constraint = session.json_constraint({"enum": ["yes", "no"]})
    reply = answered(session, AnswerOptions(max_new_tokens=20, top_logprobs=20, constraint=constraint), images=0)
    assert all(np.isfinite(value) for entry in reply.logprobs for _, value in entry.top)
    assert {len(entry.top) for entry in reply.logprobs} > {1}


def test_large_logits_do_not_overflow():
    logits = np.array([3e4, 3e4, -3e4, -np.inf], np.float32)
    entry = token_logprob(logits, 1, 4)
    assert entry.logprob == pytest.approx(-np.log(2)) and [token for token, _ in entry.top] == [0, 1, 2]
