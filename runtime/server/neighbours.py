"""What clients of llama.cpp's server and of Ollama ask for besides OpenAI's API."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Annotated, Any

from pydantic import Field

from ..statistics import Statistics
from .engine import Engine
from .openai_types import ChatRequest, Lenient, Text
from .responses import Answer, timings_of


def props_of(engine: Engine, version: str) -> dict[str, Any]:
    """Returns llama.cpp's `/props`, which its web page and Home Assistant read.

    Args:
        engine: the bundle that is served first.
        version: of this package.
    """
    opened = engine.opened
    assert opened is not None
    return {
        "default_generation_settings": {"n_ctx": opened.max_context, "params": {"temperature": 0.0}},
        "total_slots": 1,
        "model_alias": engine.name,
        "model_path": engine.name,
        "modalities": {"vision": opened.has_vision, "audio": False},
        "build_info": f"mobilevlm {version}",
        "chat_template": "",
    }


class OllamaMessage(Lenient):
    """A message of Ollama's API: images are plain base64 beside the text."""

    role: Text = "user"
    content: Text | None = None
    images: list[Text] | None = None


class OllamaRequest(Lenient):
    """Body of `POST /api/chat`."""

    model: Text | None = None
    messages: Annotated[list[OllamaMessage], Field(min_length=1)]
    stream: bool | None = None
    format: dict[str, Any] | Text | None = None
    options: dict[str, Any] | None = None


_OPTIONS = {
    "temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "min_p": "min_p", "seed": "seed",
    "repeat_penalty": "repeat_penalty", "stop": "stop", "num_predict": "max_tokens",
}  # fmt: skip


def chat_request_of(request: OllamaRequest) -> ChatRequest:
    """Returns the request in OpenAI's form.

    Raises:
        pydantic.ValidationError: an option has a wrong type or range.
    """
    messages: list[dict[str, Any]] = []
    for message in request.messages:
        images: list[dict[str, Any]] = [
            {
                "type": "image_url",
                "image_url": image if image[:5] == "data:" else f"data:image/png;base64,{image}",
            }
            for image in message.images or []
        ]
        text = [{"type": "text", "text": message.content}] if message.content else []
        messages.append({"role": message.role, "content": [*images, *text]})
    given = {theirs: value for theirs, value in (request.options or {}).items() if theirs in _OPTIONS}
    options = {_OPTIONS[name]: value for name, value in given.items()}
    if options.get("max_tokens", 0) < -1:
        options["max_tokens"] = -1  # -2 fills the context
    form: dict[str, Any] | None = None
    if request.format == "json":
        form = {"type": "json_object"}
    elif isinstance(request.format, dict):
        form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": request.format}}
    return ChatRequest.model_validate(
        {"model": request.model, "messages": messages, "stream": request.stream is not False, "response_format": form}
        | options
    )


def model_of(engine: Engine) -> dict[str, Any]:
    """Returns a bundle as `/v1/models` lists it."""
    opened = engine.opened
    assert opened is not None
    more = {"vision": opened.has_vision, "precision": opened.precision, "target": opened.target}
    head = {"id": engine.name, "object": "model", "created": 0, "owned_by": "mobilevlm"}
    return head | {"max_model_len": opened.max_context, "meta": more}


def tags_of(engines: Sequence[Engine]) -> dict[str, Any]:
    """Returns Ollama's `/api/tags`: the models that are served."""
    return {
        "models": [
            {
                "name": engine.name,
                "model": engine.name,
                "size": 0,
                "digest": engine.opened.fingerprint if engine.opened else "",
                "details": {"family": "mobilevlm", "format": "mobilevlm-bundle"},
            }
            for engine in engines
        ]
    }


def ollama_line(answer: Answer, text: str, statistics: Statistics | None, finish: str | None) -> dict[str, Any]:
    """Returns a line of Ollama's stream.

    Args:
        answer: what all lines share.
        text: of this line.
        statistics: of the answer, in its last line.
        finish: why the answer ended, in its last line.
    """
    created = datetime.fromtimestamp(answer.created, timezone.utc).isoformat()
    line: dict[str, Any] = {
        "model": answer.model,
        "created_at": created,
        "message": {"role": "assistant", "content": text},
        "done": finish is not None,
    }
    if statistics is not None:
        times = timings_of(statistics)
        line |= {
            "done_reason": finish,
            "prompt_eval_count": statistics.prompt_tokens,
            "prompt_eval_duration": int(times["prompt_ms"] * 1e6),
            "eval_count": statistics.new_tokens,
            "eval_duration": int(times["predicted_ms"] * 1e6),
            "total_duration": int((times["ttft_ms"] + times["predicted_ms"]) * 1e6),
        }
    return line
