"""The options of a chat request as those of an answer; what cannot be done is refused, never dropped without a word."""

from __future__ import annotations

from typing import Any

from mobilevlm.errors import UserError

from ..sampling import Sampling
from .errors import ApiError
from .openai_types import ChatRequest

NO_LIMIT = 1 << 30  # to the end of the context


def sampling_of(request: ChatRequest) -> Sampling:
    """Returns how tokens are chosen: greedy unless a temperature is given.

    Raises:
        ApiError: a value that sampling refuses.
    """
    greedy = request.top_p == 0
    temperature = 0.0 if greedy or request.temperature is None else request.temperature
    try:
        return Sampling(
            temperature=temperature,
            top_p=None if greedy else request.top_p,
            top_k=request.top_k if request.top_k and request.top_k > 0 else None,
            repetition_penalty=request.repeat_penalty or 1.0,
            seed=None if request.seed is None or request.seed < 0 else request.seed,
            min_p=request.min_p or None,
        )
    except UserError as error:
        raise ApiError(400, str(error)) from None


def max_new_tokens_of(request: ChatRequest) -> int:
    """Returns the longest answer; `max_completion_tokens` counts before `max_tokens`, -1 is no limit.

    Raises:
        ApiError: no token is allowed.
    """
    named = {"max_completion_tokens": request.max_completion_tokens, "max_tokens": request.max_tokens}
    for name, value in named.items():
        if value == 0:
            raise ApiError(400, f"{name} is 0; at least one token has to be allowed", name)
        if value is not None:
            return NO_LIMIT if value < 0 else value
    return NO_LIMIT


def stop_of(request: ChatRequest) -> tuple[str, ...]:
    """Returns the strings that end the answer."""
    given = [request.stop] if isinstance(request.stop, str) else request.stop or []
    return tuple(filter(None, given))


def schema_of(request: ChatRequest) -> dict[str, Any] | None:
    """Returns the JSON schema that the answer has to keep; None for free text.

    Raises:
        ApiError: the schema is missing.
    """
    form = request.response_format
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return {"type": "object"}
    if form.json_schema is None:
        raise ApiError(400, "response_format has no json_schema", "response_format")
    schema = form.json_schema.json_schema
    if schema is False:
        raise ApiError(400, "the schema is false: no answer is valid", "response_format")
    return {} if schema is True else schema


def top_logprobs_of(request: ChatRequest) -> int | None:
    """Returns how many of the likeliest tokens are noted; None for no log-probabilities.

    Raises:
        ApiError: `top_logprobs` without `logprobs`.
    """
    if request.logprobs:
        return request.top_logprobs or 0
    if request.top_logprobs:
        raise ApiError(400, "top_logprobs needs logprobs: true", "top_logprobs")
    return None


def refuse_unsupported(request: ChatRequest) -> None:
    """Refuses what the answer would silently lack.

    Raises:
        ApiError: several answers, or a tool that has to be called.
    """
    if request.n is not None and request.n != 1:
        raise ApiError(400, f"n is {request.n}; one answer to a request is what this server gives", "n")
    if request.tool_choice not in (None, "auto", "none"):
        raise ApiError(400, "the model calls no tools: tool_choice has to be auto or none", "tool_choice")
