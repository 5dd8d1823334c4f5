"""Closed questions: the probabilities are those of PyTorch, from one prefill, and leave the session as it was."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image

from mobilevlm import MobileVLM
from mobilevlm.engines.bundle import Bundle, BundleError, seal_of
from mobilevlm.engines.choice_calibration import ChoiceCalibration, read_choice_calibration, store_choice_calibration
from mobilevlm.errors import UserError
from mobilevlm.image import ImageSpec, preprocess
from mobilevlm.runtime import Session
from mobilevlm.runtime.answer_options import AnswerOptions
from mobilevlm.runtime.dialogue import Dialogue
from mobilevlm.text.prompt import IMAGE_TOKEN_INDEX, Conversation, template
from mobilevlm.train.masking import mask
from tests.conftest import DEMO, ROOT

PICTURE = Image.open(ROOT / "assets" / "shapes.png")
QUESTION = "What color is the circle?"
# One begins with another, some share their first tokens, some are one token and some are many.
COLORS = ["red", "blue", "blue and green", "blue and gray", "It is dark yellow, I think.", "red-ish"]


@pytest.fixture(scope="module")
def session(demo_fp32):
    with Session(demo_fp32) as session:
        yield session


@pytest.fixture(scope="module")
def model():
    return MobileVLM.from_pretrained(DEMO)


def learned(session: Session, question: str, answer: str) -> tuple[list[int], list[int]]:
    """A prompt and the answer's tokens behind it, the end included: what training makes of the two."""
    turns = [("human", f"<image>\n{question}"), ("gpt", answer)]
    masked = mask(turns, template("v1"), session.tokenizer, has_image=True, max_length=2048)
    assert not masked.warning
    start = next(place for place, label in enumerate(masked.labels) if label != -100)
    return masked.input_ids[:start], masked.input_ids[start:]


@torch.no_grad()
def pytorch_logprob(model, prompt: Sequence[int], answer: Sequence[int]) -> float:
    """Sum of the answer's log-probabilities, from one run over prompt and answer."""
    pixels = torch.from_numpy(preprocess(PICTURE, ImageSpec.of(model.config.model_config)))
    images = pixels if IMAGE_TOKEN_INDEX in prompt else None
    logits = model(torch.tensor([[*prompt, *answer]]), images=images).logits[0, -len(answer) - 1 : -1]
    return float(torch.log_softmax(logits.double(), -1)[range(len(answer)), list(answer)].sum())


def test_logprobs_are_pytorchs_of_the_tokens_that_training_learns(session, model):
    choice = session.choose(QUESTION, COLORS, PICTURE)
    expected = []
    for text, logprob, count in zip(COLORS, choice.logprobs, choice.tokens, strict=True):
        prompt, answer = learned(session, QUESTION, text)
        is_beginning = any(
            learned(session, QUESTION, other)[1][: len(answer) - 1] == answer[:-1] for other in COLORS if other != text
        )
        scored = answer if is_beginning else answer[:-1]
        expected.append(pytorch_logprob(model, prompt, scored))
        assert logprob == pytest.approx(expected[-1], abs=1e-3) and count == len(scored)
    assert [text for text, count in zip(COLORS, choice.tokens, strict=True) if text == "blue" and count > 1]
    weights = [math.exp(value / count) for value, count in zip(expected, choice.tokens, strict=True)]
    assert choice.probabilities == pytest.approx([weight / sum(weights) for weight in weights], abs=1e-4)
    assert sum(choice.probabilities) == pytest.approx(1) and choice.answer == COLORS[int(np.argmax(weights))]


@pytest.mark.parametrize("question", [QUESTION, "How many shapes are there?", "Describe the picture."])
def test_what_the_model_says_is_scored_as_it_says_it(session, question):
    """The tokens of a greedy answer, its end included, are those of the choice with that text."""
    conversation = Conversation(template("v1"))
    conversation.ask(question, 1)
    options = AnswerOptions(max_new_tokens=60, top_logprobs=0)
    reply = session.reply(conversation, session.read_images(PICTURE), options, start=0.0)
    text = "".join(reply)
    assert reply.finish == "stop"
    longer = f"{text} certainly"  # which begins with the answer: so the end of the answer is scored, too
    choice = session.choose(question, [text, longer], PICTURE)
    assert choice.tokens[0] == len(reply.tokens)
    assert choice.logprobs[0] == pytest.approx(sum(one.logprob for one in reply.logprobs), abs=1e-3)


def test_the_prompt_is_prefilled_once_and_shared_tokens_are_run_once(session, monkeypatch):
    runner, calls = session.decoder.runner, []

    def counted(inputs_embeds, past, run=runner.decode):
        calls.append((len(inputs_embeds), past))
        return run(inputs_embeds, past)

    "".join(session.chat("Something else.", max_new_tokens=1))
    monkeypatch.setattr(runner, "decode", counted)
    yes_no = session.choose(QUESTION, ["Yes", "No"], PICTURE)
    length, reused = yes_no.statistics.prompt_tokens, yes_no.statistics.reused_tokens
    assert yes_no.tokens == (1, 1) and calls == [(length - reused, reused)] and reused < length // 4
    calls.clear()
    colors = session.choose(QUESTION, COLORS, PICTURE)
    answers = [learned(session, QUESTION, text)[1] for text in COLORS]
    beginnings = {
        tuple(answer[:count])
        for answer, tokens in zip(answers, colors.tokens, strict=True)
        for count in range(1, tokens)
    }
    assert colors.statistics.choice_tokens == len(beginnings) < sum(colors.tokens) - len(COLORS)
    assert [past for _, past in calls[:2]] == [length - 1, length]  # the prompt's last token alone is run again
    assert len(calls) == 1 + len(beginnings) and all(count == 1 for count, _ in calls)


def test_questions_afterwards_are_answered_as_in_a_fresh_session(session, demo_fp32):
    questions = [QUESTION, "What color is the circle? Answer in a sentence.", "How many shapes are there?"]
    with Session(demo_fp32) as fresh:
        expected = [list(fresh.chat(question, PICTURE, max_new_tokens=24)) for question in questions]
        alone = fresh.choose("Is there a circle?", ["Yes", "No"], PICTURE)
    for question, pieces in zip(questions, expected, strict=True):
        session.choose(QUESTION, COLORS, PICTURE)
        assert list(session.chat(question, PICTURE, max_new_tokens=24)) == pieces
    assert session.choose("Is there a circle?", ["Yes", "No"], PICTURE).logprobs == pytest.approx(
        alone.logprobs, abs=1e-4
    )


def test_a_whole_conversation_is_answered(session, model):
    """What was said and shown before is part of the prompt, as of `Session.reply`."""
    conversation = Conversation(template("v1"))
    conversation.ask("How many shapes are there?", 1)
    conversation.answer("Three")
    conversation.ask(QUESTION)
    images = session.read_images(PICTURE)
    choice = session.choice(conversation, images, ["blue", "red"], start=0.0)
    prompt = session.tokenizer.encode(conversation.segments())
    for text, logprob in zip(choice.choices, choice.logprobs, strict=True):
        answer = learned(session, QUESTION, text)[1][:-1]
        assert logprob == pytest.approx(pytorch_logprob(model, prompt, answer), abs=1e-3)
    assert len(conversation.messages) == 3  # the caller decides what becomes of the answer


def test_an_answer_in_progress_does_not_go_on_in_a_wrong_cache(session):
    pieces = iter(session.chat("Tell me all.", PICTURE, max_new_tokens=40))
    next(pieces)
    session.choose(QUESTION, COLORS, PICTURE)
    with pytest.raises(UserError, match="another answer was begun"):
        list(pieces)


def test_nothing_is_answered_below_the_threshold(session):
    choice = session.choose(QUESTION, ["red", "blue"], PICTURE)
    best = max(choice.probabilities)
    assert session.choose(QUESTION, ["red", "blue"], PICTURE, abstain=best).answer == choice.answer
    unsure = session.choose(QUESTION, ["red", "blue"], PICTURE, abstain=min(1.0, best + 1e-9))
    assert unsure.answer is None and unsure.probabilities == pytest.approx(choice.probabilities)
    for wrong in (-0.1, 1.1, math.nan):
        with pytest.raises(UserError, match="abstain threshold is .* 0 to 1"):
            session.choose(QUESTION, ["red", "blue"], PICTURE, abstain=wrong)


def test_choices_are_handed_back_as_they_were_given(session):
    choice = session.choose(QUESTION, [" red ", "blue"], PICTURE)
    plain = session.choose(QUESTION, ["red", "blue"], PICTURE)
    assert choice.choices == (" red ", "blue") and choice.logprobs == pytest.approx(plain.logprobs)


WRONG = {
    "none": ([], "two choices or more; there are none"),
    "one": (["yes"], "two choices or more; there is one"),
    "a text": ("yes,no", "one text, 'yes,no'; give a list"),
    "twice": (["yes", "no", " yes"], "'yes' is given twice"),
    "empty": (["yes", ""], "a choice is empty"),
    "blank": (["yes", "  "], "a choice is empty"),
    "no text": (["yes", 5], "a choice is int, not text"),
    "control character": (["yes", "n\0o"], r"'n\\x00o' has the control character U\+0000"),
    "line break": (["yes", "no\n"], r"control character U\+000A"),
    "surrogate": (["yes", "n\udcffo"], r"'n\\udcffo' is not UTF-8 text"),
    "too long": (["yes", "no " * 3000], r"'no no .*…' has \d+ tokens; behind the prompt \d+ fit"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_choices_are_refused_in_one_sentence(session, case):
    choices, message = WRONG[case]
    with pytest.raises(UserError, match=message) as caught:
        session.choose(QUESTION, choices, PICTURE)
    assert "\n" not in str(caught.value) and str(caught.value).isprintable()


def test_what_the_tokenizer_does_not_know_is_refused_or_spelt_in_bytes(session):
    """Never two choices with the same score because both are the unknown token."""
    try:
        choice = session.choose(QUESTION, ["\N{SNOWMAN}", "\N{CLOUD}"], PICTURE)
    except UserError as error:
        assert "does not know" in str(error) or "cannot be told apart" in str(error)
    else:
        assert choice.logprobs[0] != choice.logprobs[1]


def test_a_choice_may_fill_the_context_to_its_last_token(session, model):
    """Behind a prompt that leaves three places four tokens fit: the last one is scored without a place."""
    words = " a" * session.max_context
    while True:
        conversation = Conversation(template("v1"))
        conversation.ask(words)
        prompt = session.tokenizer.encode(conversation.segments())
        excess = len(prompt) - (session.max_context - 3)
        if excess == 0:
            break
        words = words[: -2 * max(1, excess)]
    choice = session.choose(words, ["red red red red", "blue"])
    assert choice.tokens[0] == 4
    answer = learned(session, QUESTION, "red red red red")[1][:-1]
    assert choice.logprobs[0] == pytest.approx(pytorch_logprob(model, prompt, answer), abs=1e-3)
    with pytest.raises(UserError, match="has 5 tokens; behind the prompt 4 fit"):
        session.choose(words, ["red red red red red", "blue"])


def stored(demo: object, out, calibration: ChoiceCalibration):
    """A copy of a bundle with a calibration."""
    store_choice_calibration(Bundle.open(shutil.copytree(demo, out)), calibration)
    return out


def test_a_stored_temperature_is_used_and_survives_a_copy(session, demo_fp32, tmp_path):
    plain = session.choose(QUESTION, COLORS, PICTURE)
    calibration = ChoiceCalibration(temperature=2.5, abstain=0.999, fitted_on=7)
    copy = shutil.copytree(stored(demo_fp32, tmp_path / "one", calibration), tmp_path / "two")
    assert read_choice_calibration(Bundle.open(copy)) == calibration
    with Session(copy) as warm:
        choice = warm.choose(QUESTION, COLORS, PICTURE)
        assert warm.choose(QUESTION, COLORS, PICTURE, abstain=0.0).answer == plain.answer
    weights = [math.exp(value / count / 2.5) for value, count in zip(plain.logprobs, plain.tokens, strict=True)]
    assert choice.probabilities == pytest.approx([weight / sum(weights) for weight in weights], abs=1e-4)
    assert choice.answer is None and choice.logprobs == pytest.approx(plain.logprobs, abs=1e-4)
    store_choice_calibration(Bundle.open(copy), ChoiceCalibration(temperature=0.5))
    assert read_choice_calibration(Bundle.open(copy)) == ChoiceCalibration(temperature=0.5)


def test_an_edited_temperature_is_noticed(demo_fp32, tmp_path):
    path = stored(demo_fp32, tmp_path / "one", ChoiceCalibration(temperature=2.5)) / "bundle.json"
    path.write_text(path.read_text().replace('"temperature": 2.5', '"temperature": 3.5'))
    with pytest.raises(BundleError, match="it was edited"):
        Bundle.open(tmp_path / "one")
    manifest = json.loads(path.read_text()) | {"choices": {"temperature": -1}}
    path.write_text(json.dumps(manifest | {"seal": seal_of(manifest)}))
    with pytest.raises(BundleError, match="choices.temperature is -1, needed is 1e-06 to 1000000.0"):
        Session(tmp_path / "one")


def test_a_bundle_of_the_version_before_has_temperature_one(demo_fp32, tmp_path):
    copy = shutil.copytree(demo_fp32, tmp_path / "old")
    manifest = json.loads((copy / "bundle.json").read_text())
    del manifest["choices"]
    (copy / "bundle.json").write_text(json.dumps(manifest | {"seal": seal_of(manifest)}))
    assert read_choice_calibration(Bundle.open(copy)) == ChoiceCalibration(1.0, 0.0, 0)


def test_a_dialogue_goes_on_after_a_closed_question(session, demo_fp32):
    said = []
    for asks_closed in (False, True):
        with Session(demo_fp32) as own:
            dialogue = Dialogue(own)
            texts = []
            for number, question in enumerate((QUESTION, "And how many shapes?", "Is one red?")):
                texts.append("".join(dialogue.ask(question, None if number else PICTURE, max_new_tokens=16)))
                if asks_closed:
                    own.choose(question, COLORS, PICTURE)
            said.append(texts)
    assert said[0] == said[1]
