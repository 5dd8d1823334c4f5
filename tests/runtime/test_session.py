"""A session's shortcuts (kv cache in place, prefix reuse, image cache, follow-up turns) change nothing but the time."""

import numpy as np
import pytest
import torch
from PIL import Image

from mobilevlm import MobileVLM
from mobilevlm.engines.bundle import seal_of
from mobilevlm.errors import UserError
from mobilevlm.model.answer import answer
from mobilevlm.runtime import Sampling, Session
from mobilevlm.runtime.dialogue import Dialogue
from mobilevlm.runtime.kv_cache import CachedPrefix
from mobilevlm.text.prompt import Conversation, template
from tests.conftest import load_golden


@pytest.fixture(scope="module")
def session(bundles):
    with Session(bundles["v1_ldpnet_112"]) as session:
        yield session


@pytest.fixture(scope="module")
def model():
    return MobileVLM.from_pretrained(load_golden("v1_ldpnet_112").checkpoint)


def picture(seed, size=(90, 60)):
    values = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    return Image.fromarray(values)


def pytorch_reply(model, conversation, images, count):
    """The greedy answer of PyTorch to a conversation's open question, from the whole prompt."""
    from mobilevlm.image import ImageSpec, preprocess

    ids = torch.tensor([model.tokenizer.encode(conversation.segments())])
    pixels = [torch.from_numpy(preprocess(image, ImageSpec.of(model.config.model_config))) for image in images]
    options = dict(images=torch.cat(pixels)) if pixels else {}
    new_from = 0 if pixels else ids.shape[1]
    return model.generate(ids, max_new_tokens=count, do_sample=False, **options)[0, new_from:].tolist()


def test_follow_up_turns_match_pytorch_on_the_whole_prompt(session, model):
    """Three turns, two pictures: each turn is prefilled behind what the kv cache holds, PyTorch starts anew."""
    dialogue, conversation, images = Dialogue(session), Conversation(template("v1")), []
    turns = [("What is it?", [picture(1)]), ("And the colour?", []), ("Compare with this.", [picture(2), picture(3)])]
    for number, (question, shown) in enumerate(turns):
        conversation.ask(question, len(shown))
        images += shown
        reply = dialogue.ask(question, shown, max_new_tokens=9)
        text = "".join(reply)
        assert reply.tokens == pytorch_reply(model, conversation, images, 9)
        assert (reply.statistics.reused_tokens > 0) == (number > 0)
        conversation.answer(text)


def test_asking_again_reuses_the_prompt_and_says_the_same(session):
    image = picture(4)
    first = session.chat("Where is it?", image, max_new_tokens=12)
    text = "".join(first)
    again = session.chat("Where is it?", image, max_new_tokens=12)
    assert "".join(again) == text and again.tokens == first.tokens
    assert again.statistics.reused_tokens == again.statistics.prompt_tokens - 1
    assert first.statistics.image_encode_ms > 0 == again.statistics.image_encode_ms
    other = session.chat("Where is it?", picture(5), max_new_tokens=12)
    "".join(other)
    assert other.statistics.reused_tokens < other.statistics.prompt_tokens - 16  # another picture: not its rows


def test_an_answer_left_early_leaves_a_sound_cache(session, model):
    question, image = "What is on it?", picture(6)
    reply = session.chat(question, image, max_new_tokens=40)
    next(iter(reply))
    pieces = iter(session.chat(question, image, max_new_tokens=40))
    next(pieces)
    pieces.close()
    whole = session.chat(question, image, max_new_tokens=20)
    assert "".join(whole) == answer(model, question, image, max_new_tokens=20)


def test_an_interrupted_turn_joins_the_conversation(session, model):
    dialogue, conversation = Dialogue(session), Conversation(template("v1"))
    reply = dialogue.ask("Tell me all.", max_new_tokens=40)
    pieces = iter(reply)
    said = next(pieces) + next(pieces)
    pieces.close()
    assert reply.finish == "interrupted" and reply.text == said and reply.statistics.new_tokens >= 2
    conversation.ask("Tell me all.")
    conversation.answer(said)
    conversation.ask("Go on.")
    more = dialogue.ask("Go on.", max_new_tokens=8)
    "".join(more)
    assert more.tokens == pytorch_reply(model, conversation, [], 8)


def test_the_context_is_filled_to_its_last_row(session, model):
    """A prompt that leaves three rows: four tokens come out, the last from the last row."""
    room = session.max_context - len(session.tokenizer.encode([]))
    words = " a" * room
    while True:  # shorten until the whole prompt leaves exactly three rows
        conversation = Conversation(template("v1"))
        conversation.ask(words)
        excess = len(session.tokenizer.encode(conversation.segments())) - (session.max_context - 3)
        if excess == 0:
            break
        words = words[: -2 * max(1, excess)]
    reply = session.chat(words, max_new_tokens=50)
    "".join(reply)
    assert reply.finish in ("context", "stop") and len(reply.tokens) <= 4
    assert reply.tokens == pytorch_reply(model, conversation, [], 4)[: len(reply.tokens)]
    with pytest.raises(UserError, match=r"2049 tokens.*the context holds 2048: 1 too many"):
        session.chat(words + " a" * 4)


def test_too_many_images_are_counted_before_any_is_encoded(session):
    with pytest.raises(UserError, match=r"\(200 images of 16\), the context holds 2048: \d+ too many"):
        session.chat("What?", [session.read_image(picture(7))] * 200)


def test_what_a_user_types_is_never_a_control_token(session):
    """`<image>` and `</s>` in a question are text: no picture is missing, nothing ends early."""
    plain = session.chat("What is <image> and </s> here?", picture(8), max_new_tokens=3)
    "".join(plain)
    ids = plain._prompt.input_ids
    assert ids.count(-200) == 1 and session.tokenizer.eos_id not in ids
    assert "<image> and </s>" in session.tokenizer.decode(ids)


def test_a_seed_repeats_sampling_and_another_does_not(session):
    def said(seed):
        options = Sampling(temperature=1.5, top_p=0.95, seed=seed)
        return "".join(session.chat("Tell me a story.", sampling=options, max_new_tokens=16))

    assert said(7) == said(7)
    assert len({said(seed) for seed in range(5)}) > 1


def test_wrong_numbers_are_refused(session):
    with pytest.raises(UserError, match="max_new_tokens is 0"):
        session.chat("Hi", max_new_tokens=0)
    with pytest.raises(UserError, match="top_p is 1.5"):
        session.chat("Hi", sampling=Sampling(top_p=1.5))
    with pytest.raises(ValueError, match="nonesuch"):
        session.chat("Hi", conv_mode="nonesuch")


def test_a_picture_is_the_one_that_was_shown(session, model, tmp_path):
    """The file is overwritten, then deleted, between the questions about it (a webcam's snapshot)."""
    path, conversation, dialogue = tmp_path / "snap.png", Conversation(template("v1")), Dialogue(session)
    picture(11).save(path)
    for number, question in enumerate(("What is it?", "And now?", "Sure?")):
        conversation.ask(question, 1 if number == 0 else 0)
        reply = dialogue.ask(question, path if number == 0 else None, max_new_tokens=8)
        conversation.answer("".join(reply))
        assert reply.tokens == pytorch_reply_of(model, conversation, [picture(11)], 8)
        picture(12).save(path) if number == 0 else path.unlink(missing_ok=True)


def pytorch_reply_of(model, conversation, images, count):
    """As `pytorch_reply`, to the last question of a conversation that has its answer already."""
    open_question = Conversation(conversation.template, conversation.messages[:-1])
    return pytorch_reply(model, open_question, images, count)


def test_two_answers_at_once_are_refused(session):
    first, second = iter(session.chat("Tell me a story.", max_new_tokens=30)), session.chat("Hi", max_new_tokens=5)
    next(first)
    "".join(second)
    with pytest.raises(UserError, match="another answer was begun"):
        "".join(first)
    with pytest.raises(UserError, match="generated already"):
        "".join(second)


def test_a_closed_session_says_so(bundles):
    session = Session(bundles["v1_ldpnet_112"])
    session.close()
    with pytest.raises(UserError, match="closed"):
        session.chat("Hi")


def test_prefix_bookkeeping():
    cached = CachedPrefix()
    assert cached.reusable([1, 2]) == 0
    cached.append([1, 2, 3])
    assert [cached.reusable(keys) for keys in ([1, 2, 3, 4], [1, 2, 3], [1, 9, 3], [5])] == [3, 2, 1, 0]
    cached.keep(1)
    assert len(cached) == 1 and cached.reusable([1, 2, 3, 4]) == 1


@pytest.mark.parametrize("noted", (True, False), ids=("form noted", "of an older version"))
def test_fp16_bundles_too_large_for_memory_are_refused(noted, bundle_copy, monkeypatch):
    import json

    import mobilevlm.engines.machine as machine

    path = bundle_copy / "bundle.json"
    manifest = json.loads(path.read_text())
    manifest |= {"precision": {"vision": "fp32", "decoder": "fp16"}}
    if noted:
        manifest["forms"]["decoder"]["widened"] = True
    else:
        del manifest["forms"]
    path.write_text(json.dumps(manifest | {"seal": seal_of(manifest)}))
    monkeypatch.setattr(machine, "available_bytes", lambda: 1000)
    with pytest.raises(UserError, match="GB in memory.*--precision fp32"):
        Session(bundle_copy)
