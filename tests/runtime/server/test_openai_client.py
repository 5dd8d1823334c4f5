"""OpenAI's own client against the server: answers are those of a `Session`, in the forms that the client knows."""

import json

import jsonschema
import openai
import pytest

from mobilevlm.runtime import Session
from mobilevlm.runtime.answer_options import AnswerOptions
from mobilevlm.text.prompt import Conversation, template
from tests.runtime.server.conftest import PICTURE, data_url, shown

QUESTIONS = ("What color is the circle?", "How many shapes are there?", "Is the star to the left of the square?")


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def said(demo_fp32) -> dict[str, str]:
    with Session(demo_fp32) as session:
        return {question: "".join(session.chat(question, PICTURE)) for question in QUESTIONS}


@pytest.mark.parametrize("question", QUESTIONS)
def test_answers_are_those_of_a_session(client, said, question):
    reply = client.chat.completions.create(model="demo", messages=shown(question))
    assert reply.choices[0].message.content == said[question]
    assert (reply.choices[0].finish_reason, reply.object, reply.model) == ("stop", "chat.completion", "demo")
    usage = reply.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens > 144 and usage.prompt_tokens_details.cached_tokens < usage.prompt_tokens


def test_a_stream_is_the_answer(client, said):
    question = QUESTIONS[1]
    chunks = list(
        client.chat.completions.create(
            model="demo", messages=shown(question), stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == said[question]
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 2) + ["stop"]
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens > 3
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_conversation_goes_on(client, demo_fp32):
    first, second = QUESTIONS[0], "Is it large?"
    messages = shown(first)
    answer = client.chat.completions.create(model="demo", messages=messages).choices[0].message
    messages += [answer.model_dump(), {"role": "user", "content": second}]
    reply = client.chat.completions.create(model="demo", messages=messages)
    from mobilevlm.runtime.dialogue import Dialogue

    with Session(demo_fp32) as session:
        dialogue = Dialogue(session)
        "".join(dialogue.ask(first, PICTURE))
        assert reply.choices[0].message.content == "".join(dialogue.ask(second))
    assert reply.usage.prompt_tokens_details.cached_tokens > 144


def test_lengths_and_stop_strings(client, said):
    question = QUESTIONS[1]  # "There are 3 shapes."
    short = client.chat.completions.create(model="demo", messages=shown(question), max_tokens=2)
    assert short.choices[0].finish_reason == "length" and short.usage.completion_tokens == 2
    assert said[question].startswith(short.choices[0].message.content)
    both = client.chat.completions.create(model="demo", messages=shown(question), max_tokens=1, max_completion_tokens=3)
    assert both.usage.completion_tokens == 3
    stopped = client.chat.completions.create(model="demo", messages=shown(question), stop=["shapes", "xyz"])
    assert stopped.choices[0].message.content == said[question].partition("shapes")[0].rstrip()
    assert stopped.choices[0].finish_reason == "stop"


def test_a_seed_makes_sampling_reproducible(client):
    words = {"model": "demo", "messages": shown("Describe the image."), "temperature": 1.5, "seed": 7}
    texts = {client.chat.completions.create(**words).choices[0].message.content for _ in range(3)}
    assert len(texts) == 1
    other = client.chat.completions.create(**words | {"seed": 8}).choices[0].message.content
    assert other not in texts


def test_models_are_listed(client):
    (model,) = client.models.list().data
    assert model.id == "demo" and model.max_model_len == 2048


@pytest.mark.parametrize(
    ("words", "param"),
    [
        ({"n": 2}, "n"),
        ({"tool_choice": "required", "tools": []}, "tool_choice"),
        ({"temperature": -1}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"messages": []}, "messages"),
        ({"messages": shown("What?", "data:image/png;base64,AAAA")}, "messages.0.content.1.image_url"),
        ({"messages": shown("What?", "https://example.com/cat.png")}, "messages.0.content.1.image_url"),
        ({"messages": shown("What?", "file:///etc/passwd")}, "messages.0.content.1.image_url"),
        ({"messages": [{"role": "user", "content": "word " * 3000}]}, "messages"),
    ],
)
def test_what_cannot_be_done_is_refused(client, words, param):
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**{"model": "demo", "messages": shown("What color?")} | words)
    error = refused.value
    assert error.status_code == 400 and error.type == "invalid_request_error"
    assert (error.param or "").startswith(param), error.body
    assert error.response.headers["x-request-id"]


def test_fields_of_other_servers_are_ignored(client, said):
    more = {
        "user": "me", "store": False, "metadata": {}, "prompt_cache_key": "k", "reasoning_effort": "low",
        "verbosity": "low", "parallel_tool_calls": True, "safety_identifier": "s", "logit_bias": {},
        "chat_template_kwargs": {}, "cache_prompt": True, "timings_per_token": True, "tools": [], "tool_choice": "auto",
    }  # fmt: skip
    reply = client.chat.completions.create(model="gpt-4o", messages=shown(QUESTIONS[0]), extra_body=more)
    assert reply.choices[0].message.content == said[QUESTIONS[0]]


@pytest.mark.parametrize(
    "spell",
    [
        lambda url: url.rstrip("="),
        lambda url: url.replace("+", "-").replace("/", "_").replace("data:image_png", "data:image/png"),
        lambda url: url[:60] + "\n" + url[60:],
        lambda url: url.replace("image/png", "image/jpeg"),
    ],
    ids=["no padding", "url-safe", "line break", "wrong type"],
)
def test_data_urls_as_clients_spell_them(client, said, spell):
    reply = client.chat.completions.create(model="demo", messages=shown(QUESTIONS[0], spell(data_url())))
    assert reply.choices[0].message.content == said[QUESTIONS[0]]


def test_the_description_of_the_api_is_served(server):
    description = server.http.get("/openapi.json").json()
    assert "/v1/chat/completions" in description["paths"]
    assert json.dumps(description)


def test_log_probabilities(client, demo_fp32):
    words = {"model": "demo", "messages": shown(QUESTIONS[0]), "logprobs": True, "top_logprobs": 3}
    choice = client.chat.completions.create(**words).choices[0]
    with Session(demo_fp32) as session:
        conversation = Conversation(template("v1"))
        conversation.ask(QUESTIONS[0], 1)
        reply = session.reply(conversation, session.read_images(PICTURE), AnswerOptions(top_logprobs=3), 0.0)
        said = "".join(reply)
    content = choice.logprobs.content
    assert [one.logprob for one in content] == pytest.approx([one.logprob for one in reply.logprobs], abs=1e-3)
    assert b"".join(bytes(one.bytes) for one in content).decode().strip() == said
    assert all(len(one.top_logprobs) == 3 and one.top_logprobs[0].logprob >= one.logprob for one in content)
    streamed = [
        one
        for chunk in client.chat.completions.create(**words, stream=True)
        for choice in chunk.choices
        if choice.logprobs
        for one in choice.logprobs.content
    ]
    assert [one.token for one in streamed] == [one.token for one in content]


def test_json_answers(client):
    schema = {
        "type": "object",
        "properties": {"color": {"enum": ["red", "green", "blue"]}, "count": {"type": "integer", "minimum": 0}},
        "required": ["color", "count"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "shape", "schema": schema, "strict": True}}
    words = {"model": "demo", "messages": shown("What color is the circle? How many shapes are there?")}
    said = json.loads(client.chat.completions.create(**words, response_format=form).choices[0].message.content)
    jsonschema.validate(said, schema)
    free = client.chat.completions.create(**words, response_format={"type": "json_object"}, max_tokens=60)
    assert isinstance(json.loads(free.choices[0].message.content), dict)
    bad = {"type": "json_schema", "json_schema": {"name": "bad", "schema": {"type": "nonsense"}}}
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**words, response_format=bad)
    assert refused.value.param == "response_format"


def test_closed_questions(server, demo_fp32):
    question, choices = "What color is the circle?\nAnswer the question using a single word or phrase.", ["red", "blue"]
    reply = server.http.post("/v1/choose", json={"messages": shown(question), "choices": choices}).json()
    with Session(demo_fp32) as session:
        choice = session.choose(question, choices, PICTURE)
    assert reply["answer"] == choice.answer == "red"
    probabilities = [one["probability"] for one in reply["choices"]]
    assert probabilities == pytest.approx(choice.probabilities, abs=1e-3) and sum(probabilities) == pytest.approx(1)
    twice = server.http.post("/v1/choose", json={"messages": shown(question), "choices": ["red", "red"]})
    assert twice.status_code == 400 and twice.json()["error"]["param"] == "choices"
