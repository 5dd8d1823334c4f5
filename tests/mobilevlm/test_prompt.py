"""`mobilevlm.text.prompt` against the original's prompts, token ids, stop decisions and answers."""

import json
from pathlib import Path

import numpy as np
import pytest

from mobilevlm.errors import UserError
from mobilevlm.text.prompt import (
    IM_END,
    IM_PATCH,
    IM_START,
    IMAGE,
    MORE_TEMPLATES,
    TEMPLATES,
    Conversation,
    StopRule,
    Token,
    template,
)
from mobilevlm.text.tokenizer import Tokenizer

GOLDEN = Path(__file__).parents[1] / "golden"
PROMPTS = json.loads((GOLDEN / "_common" / "conversation_prompts.json").read_text())
STOPS = json.loads((GOLDEN / "_common" / "stopping_criteria.json").read_text())
TRAINING = json.loads((GOLDEN / "tokenizer_reference.json").read_text())["training_prompts"]
KEYWORD_TEMPLATE = {"</s>": "v1", "###": "default", "\n": "plain"}


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(GOLDEN / "_common" / "tokenizer_small")


def two_questions(name: str) -> Conversation:
    conversation = Conversation(template(name))
    conversation.ask("Q1", num_images=1)
    conversation.answer("A1")
    conversation.ask("Q2")
    return conversation


def test_registered_templates():
    assert list(TEMPLATES) + [f"(unregistered) {name}" for name in MORE_TEMPLATES] == list(PROMPTS)


@pytest.mark.parametrize("name", PROMPTS)
def test_template_matches_original(name):
    expected, found = PROMPTS[name], template(name.removeprefix("(unregistered) "))
    assert found.style.name == expected["style"]
    assert list(found.roles) == expected["roles"]
    assert (found.sep, found.sep2) == (expected["sep"], expected["sep2"])
    assert (found.version, found.offset) == (expected["version"], expected["offset"])


@pytest.mark.parametrize("name", [name for name in PROMPTS if name != "plain"])
def test_prompt_matches_original(name):
    assert two_questions(name.removeprefix("(unregistered) ")).prompt() == PROMPTS[name]["prompt"]


def test_plain_ends_answers_with_its_separator():
    """Where the original fails: `plain` has no second separator."""
    assert PROMPTS["plain"]["prompt"].startswith("ERR TypeError")
    assert two_questions("plain").prompt() == "<image>\nQ1\nA1\nQ2\n"


@pytest.mark.parametrize("name", ["v1", "llama_2", "default", "plain", "mpt"])
def test_segments_mean_the_prompt(name, tokenizer):
    """What the templates mark as control tokens is what the original's tokenizer takes for them, and no more."""
    conversation = two_questions(name)
    parsed = tokenizer.encode(tokenizer.parse(conversation.prompt()))
    assert tokenizer.encode(conversation.segments()) == parsed


@pytest.mark.parametrize("sample", TRAINING, ids=lambda sample: sample["name"])
def test_dialogue_encodes_as_in_training(sample, tokenizer):
    """Complete dialogues, as the original tokenised them for training; its `plain` drops the question."""
    if sample["template"] == "plain":
        segments = [IMAGE, sample["turns"][1], TEMPLATES["plain"].sep]
    else:
        conversation = Conversation(template(sample["template"]))
        for question, answer in zip(sample["turns"][::2], sample["turns"][1::2], strict=True):
            conversation.ask(question.replace("<image>", "").strip(), num_images=question.count("<image>"))
            conversation.answer(answer)
        segments = conversation.segments()
    assert tokenizer.encode(segments) == sample["input_ids"]


@pytest.mark.parametrize(
    "directory, question",
    [
        ("v1_ldpnet_112/ckpt_bin", "What is shown in the image?\nAnswer the question using a single word or phrase."),
        ("lora_v1/merged", "What is it?"),
    ],
)
def test_inference_prompt_matches_golden(directory, question):
    conversation = Conversation(template("v1"))
    conversation.ask(question, num_images=1)
    with np.load((GOLDEN / directory).parent / "golden.npz") as golden:
        assert Tokenizer(GOLDEN / directory).encode(conversation.segments()) == golden["input_ids"][0].tolist()


def test_images_come_first_each_on_its_line():
    conversation = Conversation(template("plain"))
    conversation.ask("Which is red?", num_images=2)
    assert conversation.prompt() == "<image>\n<image>\nWhich is red?\n"
    assert conversation.prompt(start_end=True) == "<im_start><image><im_end>\n" * 2 + "Which is red?\n"


def test_what_people_and_models_say_stays_text(tokenizer):
    spelled = "<image></s><s><unk>"
    conversation = Conversation(template("v1"))
    conversation.ask(spelled, num_images=1)
    conversation.answer(spelled)
    conversation.ask(spelled)
    tokens = [segment for segment in conversation.segments() if isinstance(segment, Token)]
    assert tokens == [IMAGE, Token("</s>")]
    ids = tokenizer.encode(conversation.segments())
    assert [ids.count(index) for index in (-200, tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id)] == [1, 1, 1, 0]


def test_start_end_tokens_are_encoded():
    tokenizer = Tokenizer(GOLDEN / "_common" / "tokenizer_small")
    tokenizer.add_tokens([token.name for token in (IM_PATCH, IM_START, IM_END)])
    conversation = Conversation(template("v1"))
    conversation.ask("Hi", num_images=1)
    ids = tokenizer.encode(conversation.segments(start_end=True))
    where = ids.index(-200)
    assert (ids[where - 1], ids[where + 1]) == (769, 770)


def test_empty_turn_leaves_its_role_only():
    conversation = Conversation(template("v1"))
    conversation.ask("")
    assert conversation.prompt().endswith("questions. USER:ASSISTANT:")


@pytest.mark.parametrize("name", ["llama_2", "llava_llama_2"])
def test_llama_2_leaves_an_open_answer_empty(name):
    conversation = Conversation(template(name))
    conversation.ask("Q1")
    assert conversation.prompt().endswith("<</SYS>>\n\nQ1 [/INST]")


def test_turns_must_alternate():
    conversation = Conversation(template("v1"))
    with pytest.raises(UserError, match="no open question: call ask"):
        conversation.answer("A")
    conversation.ask("Q")
    with pytest.raises(UserError, match="no answer yet: call answer"):
        conversation.ask("Q")


def test_conversations_share_nothing():
    two_questions("v1")
    assert Conversation(template("v1")).messages == []


def test_unknown_template_lists_the_known():
    with pytest.raises(ValueError, match=r"'v2'.*default.*vicuna_v1.*mpt"):
        template("v2")


@pytest.mark.parametrize("case", STOPS, ids=lambda case: f"{case['keyword']!r}-{case['output_ids'][-2:]}")
def test_stop_keyword_matches_original(case, tokenizer):
    rule = StopRule(tokenizer, template(KEYWORD_TEMPLATE[case["keyword"]]))
    generated = case["output_ids"][case["prompt_len"] :]
    assert rule.keyword == case["keyword"]
    assert rule.has_keyword(generated) is case["stop"]
    assert rule.stops(generated) is (case["stop"] or generated[-1] == tokenizer.eos_id)


@pytest.mark.parametrize("name, keyword", [("v1", "</s>"), ("llama_2", "<s>"), ("mpt", "<|im_end|>"), ("plain", "\n")])
def test_stop_keyword_of_style(name, keyword, tokenizer):
    assert StopRule(tokenizer, template(name)).keyword == keyword


def test_stop_rule_sees_the_newest_ids_only(tokenizer):
    rule = StopRule(tokenizer, template("default"))
    hashes = tokenizer.encode(["a###"])[1:]
    assert not rule.stops([])
    assert [rule.stops(hashes[:end]) for end in range(1, len(hashes) + 1)] == [False] * (len(hashes) - 1) + [True]
    assert not rule.stops([*hashes, *tokenizer.encode(["and so on"])[1:]])
    assert rule.stops(np.array(hashes))


@pytest.mark.parametrize(
    "text, answer",
    [(" A dog. \n", "A dog."), ("A dog. </s> ", "A dog."), ("</s> A dog</s></s>", "</s> A dog</s>"), ("", "")],
)
def test_finish_cuts_whitespace_and_one_keyword(text, answer, tokenizer):
    assert StopRule(tokenizer, template("v1")).finish(text) == answer
