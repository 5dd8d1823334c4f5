"""Arguments of the Python API: a wrong one is a UserError that names argument, value and what is possible."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mobilevlm.errors import UserError, shown, user_path
from mobilevlm.runtime import Sampling, Session
from mobilevlm.runtime.answer_options import AnswerOptions
from mobilevlm.runtime.dialogue import Dialogue
from mobilevlm.text.prompt import Conversation, template


def named(value: object) -> str:
    """Name of a test's argument that is the same in every process: no address, no order of a set."""
    return re.sub(r" at 0x\w+", "", repr(sorted(value) if isinstance(value, set) else value))


NAN, INF, HUGE = float("nan"), float("inf"), 10**400


@pytest.fixture(scope="module")
def session(demo_fp32):
    with Session(demo_fp32, prefix_cache_bytes=2**20) as session:
        yield session


@pytest.fixture(scope="module")
def pixels(session):
    size = session.config.tower.image_size
    return np.zeros((1, 3, size, size), np.float32)


def asked(text="Hi", images=0):
    conversation = Conversation(template("v1"))
    conversation.ask(text, images)
    return conversation


TEXTS = [None, b"Hi", 5, 1.5, True, ["Hi"], {"Hi"}, object(), "a\ud83d", "\udcff", np.array(["Hi"])]
COUNTS = ["5", 1.5, None, 0, -1, True, NAN, b"5", [5], -HUGE, np.float64(5)]


@pytest.mark.parametrize("prompt", TEXTS, ids=named)
def test_prompts_of_a_wrong_type_or_with_lone_surrogates(session, prompt):
    """Issue 23, row "Python API with wrong types": prompt=None/bytes/int were TypeErrors from the inside.

    Public: abetlen/llama-cpp-python pull request 2336 (types), raullenchai/Rapid-MLX pull request 730 (surrogates).
    """
    for call in (
        lambda: session.chat(prompt),
        lambda: session.choose(prompt, ["a", "b"]),
        lambda: Dialogue(session).ask(prompt),
        lambda: asked(prompt),
        lambda: asked().answer(prompt),
    ):
        with pytest.raises(UserError, match=r"the (question|answer) is .*(text \(str\)|not UTF-8)"):
            call()


@pytest.mark.parametrize("count", COUNTS, ids=named)
def test_max_new_tokens_of_a_wrong_type_or_range(session, count):
    """Issue 23, row "Python API with wrong types": max_new_tokens='5'/1.5/None were TypeErrors from the inside."""
    for call in (
        lambda: session.chat("Hi", max_new_tokens=count),
        lambda: Dialogue(session).ask("Hi", max_new_tokens=count),
    ):
        with pytest.raises(UserError) as error:
            call()
        assert f"max_new_tokens is {shown(count)}; it must be an integer >= 1" == str(error.value)


def test_integers_of_any_size_and_kind_bound_an_answer(session):
    short = "".join(session.chat("What color is it?", max_new_tokens=3))
    whole = "".join(session.chat("What color is it?"))
    assert "".join(session.chat("What color is it?", max_new_tokens=np.int64(3))) == short
    assert "".join(session.chat("What color is it?", max_new_tokens=10**30)) == whole
    assert "".join(session.chat("What color is it?", max_new_tokens=HUGE)) == whole


@pytest.mark.parametrize("name", ["v9", "", 1, ["v1"], {"v1": 1}, b"v1", template("v1")], ids=named)
def test_templates_that_are_no_name(session, name):
    with pytest.raises(UserError, match="there is no prompt template .*; choose one of default, .*usually v1"):
        session.chat("Hi", conv_mode=name)
    with pytest.raises(UserError, match="there is no prompt template"):
        Dialogue(session, name)


@pytest.mark.parametrize("sampling", [0, "", False, 0.7, {"temperature": 1}, Sampling, [], "greedy"], ids=named)
def test_sampling_of_a_wrong_type(session, sampling):
    """What is false was taken for None: an answer without a word.

    Public: abetlen/llama-cpp-python pull request 2336.
    """
    for ask in (session.chat, Dialogue(session).ask):
        with pytest.raises(UserError, match=r"sampling is .*; it must be a Sampling, or None \(greedy\)"):
            ask("Hi", sampling=sampling)


@pytest.mark.parametrize("value", [HUGE, -HUGE, 1 + 1j, "1", [1], np.array([1.0]), NAN, -INF], ids=named)
@pytest.mark.parametrize("name", ["temperature", "top_p", "min_p", "repetition_penalty"])
def test_numbers_that_are_none(name, value):
    with pytest.raises(UserError, match=f"^{name} is .*; it must be"):
        Sampling(**{name: value})


def test_numbers_of_any_kind_sample_alike(session):
    """A fraction of Python's, which numpy does not divide by, and numpy's own numbers."""

    def said(half, fifth):
        sampling = Sampling(temperature=half, top_p=half, min_p=fifth, repetition_penalty=1 + half, seed=np.int64(3))
        return session.chat("Tell me.", sampling=sampling, max_new_tokens=8)

    plain = "".join(said(0.5, 0.2))
    assert "".join(said(Fraction(1, 2), Fraction(1, 5))) == plain
    assert "".join(said(np.float16(0.5), np.float64(0.2))) == plain


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("stop", "###", "stop is '###'; it must be a list of texts"),
        ("stop", None, "stop is None; it must be a list of texts"),
        ("stop", 5, "stop is 5"),
        ("stop", {"a"}, "stop is {'a'}"),
        ("stop", ["a", b"b"], "one of stop is b'b'; it must be text"),
        ("stop", ["a", ""], "a stop string is empty"),
        ("top_logprobs", "3", "top_logprobs is '3'; it has to be 0 to 20"),
        ("top_logprobs", True, "top_logprobs is True"),
        ("top_logprobs", 2.0, "top_logprobs is 2.0"),
        ("constraint", {"type": "object"}, "constraint is {'type': 'object'}; it must be what Session.json_constraint"),
    ],
)
def test_answer_options_of_a_wrong_type(name, value, message):
    with pytest.raises(UserError) as error:
        AnswerOptions(**{name: value})
    assert message in str(error.value)


def test_stop_strings_of_a_generator_are_all_taken(session):
    options = AnswerOptions(stop=(text for text in ("zzz", " is")))
    assert options.stop == ("zzz", " is")


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (None, "choices is None; it must be a list of texts"),
        (5, "choices is 5"),
        ({"red", "blue"}, "it must be a list of texts"),
        ({"red": 1, "blue": 2}, "it must be a list of texts"),
        ((text for text in ("red", "blue")), "choices is <generator"),
        (b"red", "choices is b'red'"),
        ("red", "the choices are one text"),
        (["red", 5], "a choice is int, not text"),
        (["red", None], "a choice is NoneType"),
        (["red", "bl\udcff"], "is not UTF-8 text"),
        ([], "there are none"),
    ],
    ids=named,
)
def test_choices_of_a_wrong_type(session, choices, message):
    with pytest.raises(UserError) as error:
        session.choose("What color is it?", choices)
    assert message in str(error.value)


@pytest.mark.parametrize("abstain", ["0.5", NAN, INF, -0.1, 1.1, True, HUGE, [0.5]], ids=named)
def test_thresholds_that_are_no_probability(session, abstain):
    with pytest.raises(UserError, match="the abstain threshold is .* 0 to 1"):
        session.choose("What color is it?", ["red", "blue"], abstain=abstain)


@pytest.mark.parametrize("size", [None, "5", 1.5, -1, True, NAN, -HUGE], ids=named)
def test_sizes_of_the_prefix_cache_that_are_none(demo_fp32, size):
    with pytest.raises(UserError, match=r"prefix_cache_bytes is .*; it must be a number of bytes, or 0 for none"):
        Session(demo_fp32, prefix_cache_bytes=size)


@pytest.mark.parametrize("schema", ["{}", [1], 5, True, b"{}", {"a": {1}}, {"minimum": NAN}, {1: object()}], ids=named)
def test_schemas_of_a_wrong_type(session, schema):
    with pytest.raises(UserError, match="the JSON schema"):
        session.chat("Hi", schema=schema)


@pytest.mark.parametrize("path", [None, 5, b"bundle", ["a"], "a\0b", Path("a\0b"), True], ids=named)
def test_paths_that_are_none(session, path):
    """Paths that are None, of another type, or with a NUL. Public: abetlen/llama-cpp-python pull request 2336."""
    for call in (user_path, Session, session.load_prefix, lambda path: session.save_prefix(path, asked(), [])):
        with pytest.raises(UserError, match=r"the path is .*; it must be text or a pathlib.Path"):
            call(path)


def test_conversations_and_images_that_do_not_belong_together(session, pixels):
    """A missing image was a StopIteration from the inside; one too many was left out without a word."""
    calls = (
        lambda talk, images: session.reply(talk, images, AnswerOptions(), 0.0),
        lambda talk, images: session.choice(talk, images, ["a", "b"], 0.0),
        session.keep_prefix,
        lambda talk, images: session.save_prefix("never.prefix", talk, images),
    )
    nan = pixels.copy()
    nan[0, 1, 2, 3] = NAN
    for call in calls:
        for talk, images, message in (
            ("Hi", [], "conversation is 'Hi'; it must be"),
            (None, [], "conversation is None"),
            (asked(images=1), [], "the conversation shows 1 images, and 0 are given"),
            (asked(), [pixels], "the conversation shows 0 images, and 1 are given"),
            (asked(images=1), pixels, "images is "),
            (asked(images=1), None, "images is None"),
            (asked(images=1), ["a.png"], "image 1 is str; it must be float32"),
            (asked(images=1), [pixels[0]], "image 1 is float32 (3,"),
            (asked(images=1), [pixels.astype(np.float64)], "image 1 is float64"),
            (asked(images=2), [pixels, nan], "image 2 has pixel values that are NaN or infinite"),
        ):
            with pytest.raises(UserError) as error:
                call(talk, images)
            assert message in str(error.value)
    with pytest.raises(UserError, match="options is None; it must be an AnswerOptions"):
        session.reply(asked(), [], None, 0.0)


def test_pixels_that_do_not_lie_in_a_row_are_those(session, pixels):
    """A view with other strides was a BufferError from the inside."""
    draws = np.random.default_rng(0).standard_normal(pixels.shape).astype(np.float32)
    view = np.asfortranarray(draws)
    plain = "".join(session.chat("What is it?", draws, max_new_tokens=8))
    assert not view.flags.c_contiguous
    assert "".join(session.chat("What is it?", view, max_new_tokens=8)) == plain


def test_a_constraint_that_leaves_no_token_is_said(session):
    nothing = SimpleNamespace(
        is_complete=False,
        begin=lambda limit: None,
        accept=lambda token: True,
        restrict=lambda logits: np.full_like(logits, -np.inf),
    )
    with pytest.raises(UserError, match="rules all of them out"):
        "".join(session.reply(asked(), [], AnswerOptions(constraint=nothing), 0.0))


def test_values_are_shown_in_one_short_line():
    assert shown(HUGE) == "an integer of 1329 bits" and shown(10**5000).endswith("bits")
    assert len(shown("x" * 10**6)) < 100 and "\n" not in shown(np.zeros((5, 5)))
