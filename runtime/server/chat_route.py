"""`POST /v1/chat/completions`: whole answers and streams."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

from fastapi import Request
from fastapi.responses import Response, StreamingResponse

from .answer_request import AnswerRequest, Chosen, Event, Finished, NamedLogprob, Piece
from .chat_options import max_new_tokens_of, refuse_unsupported, sampling_of, schema_of, stop_of, top_logprobs_of
from .engine import Engine
from .errors import ApiError
from .images import read_image
from .neighbours import ollama_line
from .openai_types import ChatRequest, ChooseRequest, Message
from .options import ServerOptions
from .questions import question_of
from .responses import Answer, delta, finish_of, sse, timings_of, to_json, usage_of
from .service import Service
from .sse import PING, first_of, while_connected, with_pings


async def question(messages: Sequence[Message], engine: Engine, options: ServerOptions) -> AnswerRequest:
    """Returns messages as a request for an engine, images read.

    Args:
        messages: of the request.
        engine: that will answer.
        options: of the server.

    Raises:
        ApiError: an image cannot be used.
    """
    asked = question_of(messages)
    if asked.images and engine.opened is not None and not engine.opened.has_vision:
        raise ApiError(400, f"{engine.name} is a text-only model: it takes no image", asked.images[0][1])
    images = [
        await read_image(url, place, options.max_pixels, options.max_bytes, options.allow_remote_images)
        for url, place in asked.images
    ]
    return AnswerRequest(asked.turns, images, asked.system, options.conv_mode)


async def asked_of(body: ChatRequest, service: Service, options: ServerOptions) -> tuple[Engine, AnswerRequest]:
    """Returns the engine that answers a chat request, and what it is asked.

    Args:
        body: of the request.
        service: with the bundles.
        options: of the server.

    Raises:
        ApiError: it cannot be answered.
    """
    refuse_unsupported(body)
    engine = service.engine_of(body.model)
    request = replace(
        await question(body.messages, engine, options),
        sampling=sampling_of(body),
        max_new_tokens=max_new_tokens_of(body),
        stop=stop_of(body),
        top_logprobs=top_logprobs_of(body),
        schema=schema_of(body),
    )
    return engine, request


async def respond(body: ChatRequest, http: Request, service: Service, options: ServerOptions, client: str) -> Response:
    """Answers a chat request.

    Args:
        body: of the request.
        http: the connection.
        service: with the bundles.
        options: of the server.
        client: whose request it is.

    Raises:
        ApiError: it cannot be answered.
    """
    engine, request = await asked_of(body, service, options)
    events = service.answer(engine, request, client)
    answer = Answer(engine.name, engine.opened.fingerprint if engine.opened else "")
    if not body.stream:
        return Response(to_json(await _whole(events, http, answer, body)), media_type="application/json")
    kept_alive = with_pings(events)
    first = await first_of(kept_alive, http)  # an error before it is a status, not an event
    wants_usage = body.stream_options is not None and body.stream_options.include_usage is True
    chunks = _chunks(first, kept_alive, answer, bool(body.logprobs), wants_usage)
    return StreamingResponse(chunks, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


async def _whole(
    events: AsyncGenerator[Event, None], http: Request, answer: Answer, body: ChatRequest
) -> dict[str, Any]:
    text: list[str] = []
    logprobs: list[NamedLogprob] = []
    async for event in while_connected(events, http):
        if isinstance(event, Piece):
            text.append(event.text)
            logprobs += event.logprobs
        elif isinstance(event, Finished):
            logprobs += event.rest
            return answer.whole(
                "".join(text),
                finish_of(event.finish),
                logprobs if body.logprobs else None,
                usage=usage_of(event.statistics),
                timings=timings_of(event.statistics),
            )
    raise ApiError(500, "the engine ended without an answer")


async def _chunks(
    first: Event | None,
    events: AsyncGenerator[Event | None, None],
    answer: Answer,
    wants_logprobs: bool,
    wants_usage: bool,
) -> AsyncIterator[bytes]:
    usage: dict[str, Any] = {"usage": None} if wants_usage else {}
    yield sse(answer.chunk([delta({"role": "assistant", "content": ""}, None, None)], **usage))
    try:
        async for event in _behind(first, events):
            yield _chunk(event, answer, wants_logprobs, usage)
            if isinstance(event, Finished) and wants_usage:
                yield sse(answer.chunk([], usage=usage_of(event.statistics)))
        yield b"data: [DONE]\n\n"
    except ApiError as error:
        yield sse(error.body)
    finally:
        await events.aclose()


async def _behind(first: Event | None, events: AsyncIterator[Event | None]) -> AsyncIterator[Event | None]:
    yield first
    async for event in events:
        yield event


def _chunk(event: Event | None, answer: Answer, wants_logprobs: bool, usage: dict[str, Any]) -> bytes:
    if isinstance(event, Piece):
        return sse(
            answer.chunk([delta({"content": event.text}, None, event.logprobs if wants_logprobs else None)], **usage)
        )
    if isinstance(event, Finished):
        last = delta({}, finish_of(event.finish), event.rest if wants_logprobs else None)
        return sse(answer.chunk([last], timings=timings_of(event.statistics), **usage))
    return PING


async def choose(
    body: ChooseRequest, http: Request, service: Service, options: ServerOptions, client: str
) -> tuple[Chosen, Engine]:
    """Answers a closed question.

    Args:
        body: of the request.
        http: the connection.
        service: with the bundles.
        options: of the server.
        client: whose request it is.

    Raises:
        ApiError: it cannot be answered.
    """
    engine = service.engine_of(body.model)
    request = replace(await question(body.messages, engine, options), choices=tuple(body.choices))
    async for event in while_connected(service.answer(engine, request, client), http):
        if isinstance(event, Chosen):
            return event, engine
    raise ApiError(500, "the engine ended without an answer")


async def respond_ollama(
    body: ChatRequest, http: Request, service: Service, options: ServerOptions, client: str
) -> Response:
    """Answers a chat request in Ollama's form: a line of JSON for each piece.

    Args:
        body: the request in OpenAI's form.
        http: the connection.
        service: with the bundles.
        options: of the server.
        client: whose request it is.

    Raises:
        ApiError: it cannot be answered.
    """
    engine, request = await asked_of(body, service, options)
    events, answer = service.answer(engine, request, client), Answer(engine.name, "")
    if not body.stream:
        text = ""
        async for event in while_connected(events, http):
            text += event.text if isinstance(event, Piece) else ""
            if isinstance(event, Finished):
                line = ollama_line(answer, text, event.statistics, finish_of(event.finish))
                return Response(to_json(line), media_type="application/json")
        raise ApiError(500, "the engine ended without an answer")
    first = await first_of(events, http)
    return StreamingResponse(_lines(first, events, answer), media_type="application/x-ndjson")


async def _lines(first: Event | None, events: AsyncGenerator[Event, None], answer: Answer) -> AsyncIterator[bytes]:
    try:
        async for event in _behind(first, events):
            if isinstance(event, Piece):
                yield to_json(ollama_line(answer, event.text, None, None)) + b"\n"
            elif isinstance(event, Finished):
                yield to_json(ollama_line(answer, "", event.statistics, finish_of(event.finish))) + b"\n"
    except ApiError as error:
        yield to_json({"error": error.message}) + b"\n"
    finally:
        await events.aclose()
