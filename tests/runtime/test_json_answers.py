"""Answers that follow a JSON schema, as Python's parser and jsonschema say: they share no code with what is tested."""

from __future__ import annotations

import builtins
import datetime
import json
import time

import jsonschema
import numpy as np
import pytest

from mobilevlm.errors import UserError
from mobilevlm.runtime import Sampling, Session
from mobilevlm.runtime.answer_options import AnswerOptions
from mobilevlm.runtime.json_answers.document import Document
from mobilevlm.runtime.json_answers.grammars import JsonGrammars
from mobilevlm.runtime.json_answers.pieces import Pieces
from mobilevlm.text.prompt import Conversation, template
from tests.conftest import DEMO, ROOT
from tests.documents import BLOCKS
from tests.runtime.random_schemas import SchemaGenerator

PHOTO, SHAPES = ROOT / "assets" / "table.jpg", ROOT / "assets" / "shapes.png"
SAMPLED = Sampling(temperature=1.3, top_p=0.98, seed=11)


@pytest.fixture(scope="module")
def session(demo_fp32):
    with Session(demo_fp32) as session:
        yield session


@pytest.fixture(scope="module")
def grammars(session):
    return JsonGrammars(session.tokenizer, session.config.vocab_size)


FORMATS = jsonschema.FormatChecker(("uuid", "ipv4", "email"))


@FORMATS.checks("date", raises=ValueError)
def is_date(value):
    """RFC 3339's form knows a year 0 and does not say which years have a 29th of February; Python's calendar does."""
    if not isinstance(value, str):
        return True
    lenient = value.startswith("0000") or value.endswith("-02-29")
    return bool(datetime.date.fromisoformat("2000" + value[4:] if lenient else value))


def check(schema, text):
    """Fail unless a text is JSON that follows a schema, formats included."""
    document = json.loads(text)
    jsonschema.Draft202012Validator(schema, format_checker=FORMATS).validate(document)
    return document


def generated(constraint, limit, seed, scale=3.0):
    """Tokens that follow random logits, as a model without sense would choose them."""
    rng, tokens = np.random.default_rng(seed), []
    size = len(constraint.restrict(np.zeros(1024, np.float32)))
    bias = rng.standard_normal(size) * scale  # the same tokens again and again
    constraint.begin(limit)
    while not constraint.is_complete and len(tokens) < limit:
        logits = (bias + rng.standard_normal(size) * rng.choice([0.1, 2.0])).astype(np.float32)
        token = int(constraint.restrict(logits).argmax())
        if constraint.accept(token):
            tokens.append(token)
    return tokens


def answer_all(session, count, seed, limit=160):
    """Answers to `count` random schemas, with and without a picture, greedy and sampled; each has to be valid."""
    generator, pixels = SchemaGenerator(seed), session.read_image(PHOTO)
    lengths, refused = [], 0
    for number in range(count):
        schema = generator.schema()
        jsonschema.Draft202012Validator.check_schema(schema)
        try:
            constraint = session.json_constraint(schema)
        except UserError as error:  # one that nothing satisfies is drawn now and then
            assert "Unsatisfiable" in str(error)
            refused += 1
            continue
        images = [pixels] * (number % 2)
        conversation = Conversation(template("v1"))
        conversation.ask("Describe what you see.", len(images))
        most = max(limit, 2 * constraint.shortest)
        options = AnswerOptions(SAMPLED if number // 2 % 2 else Sampling(), most, constraint=constraint)
        reply = session.reply(conversation, images, options, time.perf_counter())
        text = "".join(reply)
        assert reply.finish == "stop", (schema, text)
        check(schema, text)
        lengths.append(len(reply.tokens))
    return lengths, refused


def test_every_answer_of_the_demo_follows_its_schema(session):
    lengths, refused = answer_all(session, 25, seed=5, limit=64)
    assert refused <= 1 and max(lengths) >= 64 > min(lengths)


@pytest.mark.slow
def test_every_answer_of_the_demo_follows_its_schema_500_times(session):
    lengths, refused = answer_all(session, 500, seed=0)
    print(f"{len(lengths)} answers, {sum(lengths)} tokens, {refused} schemas refused")
    assert len(lengths) >= 490


@pytest.mark.parametrize("limit", (12, 40, 150))
def test_a_document_that_fits_is_whole_when_the_tokens_are_used_up(grammars, session, limit):
    """Over random logits; where the constraint found no ending at first, it may fail to, and has to say so."""
    generator, whole = SchemaGenerator(21), 0
    for seed in range(30):
        schema = generator.schema()
        constraint = grammars.constraint(schema)
        constraint.begin(limit)
        fits = constraint.shortest <= limit
        tokens = generated(constraint, limit, seed)
        assert len(tokens) <= limit and (constraint.is_complete or not fits)
        text = b"".join(map(session.tokenizer.token_bytes, tokens)).decode()
        if constraint.is_complete:
            check(schema, text)
            whole += 1
    assert whole > {12: 8, 40: 18, 150: 27}[limit]


def test_tokens_too_few_for_any_document_end_in_length(session):
    schema = {"type": "object", "properties": {"a": {"minItems": 30, "type": "array"}}, "required": ["a"]}
    reply = session.chat("What?", max_new_tokens=8, schema=schema)
    text = "".join(reply)
    assert reply.finish == "length" and len(reply.tokens) == 8
    with pytest.raises(ValueError):
        json.loads(text)


def test_a_context_that_ends_closes_the_document(session):
    """The kv cache's last rows count like max_new_tokens."""
    schema = {"type": "object", "properties": {"text": {"type": "string"}, "n": {"type": "integer"}}}
    schema["required"] = ["text", "n"]
    conversation = Conversation(template("v1"))
    words = "word " * 4000
    while True:
        conversation = Conversation(template("v1"))
        conversation.ask(words)
        length = len(session.tokenizer.encode(conversation.segments()))
        if length <= session.max_context - 40:
            break
        words = words[: -5 * max(1, (length - session.max_context + 40) // 2)]
    options = AnswerOptions(SAMPLED, 4096, constraint=session.json_constraint(schema))
    reply = session.reply(conversation, [], options, time.perf_counter())
    check(schema, "".join(reply))
    assert reply.finish == "stop"


def test_a_constraint_can_be_used_again(session):
    schema = {"enum": ["yes", "no", 3, None, {"a": [1, 2]}]}
    said = [check(schema, "".join(session.chat("Well?", sampling=SAMPLED, schema=schema))) for _ in range(2)]
    assert said[0] == said[1]


def test_text_that_ends_other_answers_may_be_part_of_a_document(session):
    """`</s>` and `###` as characters, which are templates' stop strings."""
    for mode in ("v1", "llava_v0"):
        schema = {"const": {"text": "a </s> b ### c"}}
        reply = session.chat("Well?", conv_mode=mode, schema=schema)
        assert json.loads("".join(reply)) == schema["const"] and reply.finish == "stop"


def test_a_callers_stop_string_still_ends_it(session):
    conversation = Conversation(template("v1"))
    conversation.ask("Well?")
    constraint = session.json_constraint({"const": {"text": "one, two"}})
    options = AnswerOptions(stop=[","], constraint=constraint)
    reply = session.reply(conversation, [], options, time.perf_counter())
    assert "".join(reply) == '{"text": "one' and reply.finish == "stop"


def test_any_object_is_an_object(session):
    for question in ("What is in the picture?", "Answer in JSON."):
        reply = session.chat(question, PHOTO, sampling=SAMPLED, max_new_tokens=60, schema={"type": "object"})
        assert isinstance(json.loads("".join(reply)), dict)


def test_no_logits_make_an_endless_part(grammars, session):
    """Digits, brackets, keys and text that a model repeats for ever: the document goes on behind them."""
    piece = {session.tokenizer.token_bytes(token): token for token in range(3, len(session.tokenizer))}
    properties = {"n": {"type": "number"}, "l": {"type": "array"}, "t": {"type": "string"}, "end": {"const": 1}}
    schema = {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
    for liked in (b"9", b"[", b"e", b'"', b" ", b",", b"\\", b"\xe6", b".", b"1"):
        constraint = grammars.constraint(schema)
        constraint.begin(300)
        logits, tokens = np.zeros(session.config.vocab_size, np.float32), []
        logits[piece[liked]] = 9
        while not constraint.is_complete:
            token = int(constraint.restrict(logits).argmax())
            if constraint.accept(token):
                tokens.append(token)
        document = check(schema, b"".join(map(session.tokenizer.token_bytes, tokens)).decode())
        assert np.isfinite(float(document["n"])) and len(tokens) <= 300


def test_keys_that_a_schema_leaves_open_differ(grammars, session):
    schema = {"type": "object", "additionalProperties": {"type": "boolean"}, "minProperties": 4, "maxProperties": 4}
    for seed in range(8):
        tokens = generated(grammars.constraint(schema), 60, seed, scale=12)
        document = check(schema, b"".join(map(session.tokenizer.token_bytes, tokens)).decode())
        assert len(document) == 4


DEEP: dict = {"type": "array"}
for _ in range(200):
    DEEP = {"type": "array", "items": DEEP}
LOOP: dict = {"type": "object"}
LOOP["properties"] = {"a": LOOP}
MALFORMED = {
    "a list": [],
    "a string": "object",
    "a type of no name": {"type": "thing"},
    "a type that is a number": {"type": 5},
    "no types": {"type": []},
    "properties that are a list": {"type": "object", "properties": []},
    "a property that is a number": {"type": "object", "properties": {"a": 5}},
    "required that is a string": {"type": "object", "required": "a"},
    "an enum that is none": {"enum": 5},
    "an empty enum": {"enum": []},
    "an empty anyOf": {"anyOf": []},
    "items that are a number": {"type": "array", "items": 5},
    "a least length that is a string": {"type": "string", "minLength": "3"},
    "a negative length": {"type": "string", "maxLength": -1},
    "lengths that exclude each other": {"type": "string", "minLength": 5, "maxLength": 3},
    "ranges that exclude each other": {"type": "integer", "minimum": 5, "maximum": 3},
    "types that exclude each other": {"allOf": [{"type": "string"}, {"type": "integer"}]},
    "a pattern that is none": {"type": "string", "pattern": "("},
    "a pattern that looks ahead": {"type": "string", "pattern": "(?=a)b"},
    "a format of no name": {"type": "string", "format": "colour"},
    "a multiple of nothing": {"type": "integer", "multipleOf": 0},
    "a reference to nothing": {"$ref": "#/$defs/none"},
    "a reference to the network": {"$ref": "http://example.com/schema.json"},
    "a reference to itself": {"$ref": "#"},
    "an object that needs itself": {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    "items that differ": {"type": "array", "uniqueItems": True},
    "not": {"not": {"type": "string"}},
    "if": {"if": {}, "then": {}},
    "a number that is none": {"const": float("nan")},
    "a value that is no JSON": {"const": {1, 2}},
    "nested too deep": DEEP,
    "one that contains itself": LOOP,
    "one that is too large": {"enum": [f"{number:06}" for number in range(20000)]},
    "a document that is too long": {"type": "string", "minLength": 100000},
    "an array that is too long": {"type": "array", "minItems": 50000},
    "a pattern that explodes": {"type": "string", "pattern": "^((a{1,200}){1,200}){1,200}$", "minLength": 9000},
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_schemas_that_cannot_be_enforced_are_refused_in_a_sentence(grammars, kind):
    begin = time.process_time()
    with pytest.raises(UserError, match="^the JSON schema [^\n]*$") as error:
        grammars.constraint(MALFORMED[kind])
    assert time.process_time() - begin < 1 and "x-guidance" not in str(error.value) and len(str(error.value)) < 500


LARGE = {
    "an enum of 3,000": {"enum": [f"word {number}" for number in range(3000)]},
    "an object of 200 keys": {"type": "object", "properties": {f"key{n}": {"type": "string"} for n in range(200)}},
    "ranges of a large number of items": {"type": "array", "items": {"type": "integer"}, "maxItems": 100000},
    "a long string": {"type": "string", "maxLength": 100000},
    "a wide anyOf": {"anyOf": [{"type": "object", "properties": {f"k{n}": {"type": "null"}}} for n in range(100)]},
    "a tree": {
        "$defs": {"tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "minItems": 0, "maxItems": 9}},
        "$ref": "#/$defs/tree",
    },
    "definitions that double": {
        "$defs": {
            f"d{n}": {"type": "array", "items": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2}} for n in range(30)
        }
        | {"d30": {"type": "null"}},
        "$ref": "#/$defs/d0",
    },
}


@pytest.mark.parametrize("kind", LARGE)
def test_large_schemas_take_less_than_a_second(grammars, session, kind):
    begin = time.process_time()
    constraint = grammars.constraint(LARGE[kind])
    assert time.process_time() - begin < 1
    tokens = generated(constraint, 60, 3)
    check(LARGE[kind], b"".join(map(session.tokenizer.token_bytes, tokens)).decode())


def test_the_example_of_the_page_runs(demo_fp32, capsys):
    (block,) = (block for block in BLOCKS if block.page.name == "json_answers.md" and block.kind == "python")
    body = block.body.replace("artifacts/demo-host", str(demo_fp32)).replace("assets/shapes.png", str(SHAPES))
    exec(body, {})
    text, _, finish = capsys.readouterr().out.strip().rpartition(" ")
    assert json.loads(text)["color"] in ("red", "green", "blue") and finish == "stop"


def test_without_llguidance_the_extra_is_named(session, monkeypatch):
    real = builtins.__import__

    def missing(name, *rest):
        if name == "llguidance":
            raise ImportError("No module named 'llguidance'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UserError, match=r"pip install 'mobilevlm\[json\]'"):
        JsonGrammars(session.tokenizer, session.config.vocab_size)


def test_a_padded_vocabulary_never_yields_a_token_without_text(session):
    constraint = JsonGrammars(session.tokenizer, 1100).constraint({"type": "array"})
    restricted = constraint.restrict(np.zeros(1100, np.float32))
    assert np.isneginf(restricted[len(session.tokenizer) :]).all() and np.isfinite(restricted).any()


def test_token_bytes_joined_are_the_text():
    from mobilevlm.text.tokenizer import Tokenizer

    tokenizer = Tokenizer(DEMO)
    for text in ("a red square.", "naïve 日本 🙂", '{"a": [1, 2]}\n', "two  spaces"):
        ids = tokenizer.encode([text])
        assert b"".join(map(tokenizer.token_bytes, ids)).decode().removeprefix(" ") == text
    special = [tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id, len(tokenizer)]
    assert [tokenizer.token_bytes(index) for index in special] == [b""] * 4
    tokenizer.add_tokens(["<new>"])
    assert tokenizer.token_bytes(tokenizer.token_to_id("<new>")) == b""


def test_the_fewest_tokens_are_found():
    pieces = Pieces([b"", b"a", b"ab", b"b", b"bcd", b"c", b"d", b"abc"])
    assert pieces.fewest(b"abcd") in ((1, 4), (7, 6)) and pieces.fewest(b"") == () and pieces.fewest(b"ax") is None


def test_bounds_of_a_document():
    document = Document().after(b'{"a": 1, "b": [', 7)
    assert [one.is_object for one in document.containers] == [True, False] and not document.is_key
    assert not document.is_overdue(6) and document.is_overdue(7)
    assert Document().after(b'{"a": 1, "a"', 9).excess and not Document().after(b'{"a": {"a"', 9).excess
    assert Document().after(b"1" * 21, 9).excess and Document().after(b"1e100", 9).excess
    assert Document().after(b"0.1234567890123456", 9).excess and not Document().after(b"-0.123456", 9).excess
    assert Document().after(b"[" * 101, 9).excess
    escaped = Document().after(b'"a\\"b', 9)
    assert escaped.string is not None and escaped.after(b'"', 9).string is None
