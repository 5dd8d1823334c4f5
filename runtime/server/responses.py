"""Answers as OpenAI's chat API gives them, whole and in chunks."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response

from ..statistics import Statistics
from .answer_request import NamedLogprob
from .errors import ApiError


def to_json(value: Any) -> bytes:
    """Encodes JSON in ASCII: no text that a client sent can make it fail."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode()


def error_response(error: ApiError) -> Response:
    """Makes the response of a request that is refused."""
    return Response(to_json(error.body), error.status, error.headers, "application/json")


def sse(value: Any) -> bytes:
    """Encodes a server-sent event."""
    return b"data: " + to_json(value) + b"\n\n"


@dataclass(frozen=True)
class Answer:
    """What all chunks of an answer share.

    Attributes:
        model: name of the bundle.
        fingerprint: hash of the bundle.
        id: of the answer.
        created: Unix time in seconds.
    """

    model: str
    fingerprint: str
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def chunk(self, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """Returns a chunk of a stream.

        Args:
            choices: its choices; empty for usage alone.
            more: further fields.
        """
        return self._head("chat.completion.chunk") | {"choices": choices} | more

    def whole(self, text: str, finish: str, logprobs: Sequence[NamedLogprob] | None, **more: Any) -> dict[str, Any]:
        """Returns a whole answer.

        Args:
            text: of the answer.
            finish: `stop` or `length`.
            logprobs: of its tokens; None where none were asked for.
            more: further fields.
        """
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
        choice = {"index": 0, "message": message, "logprobs": logprobs_of(logprobs), "finish_reason": finish}
        return self._head("chat.completion") | {"choices": [choice]} | more

    def _head(self, kind: str) -> dict[str, Any]:
        head = {"id": self.id, "object": kind, "created": self.created, "model": self.model}
        return head | {"system_fingerprint": f"fp_{self.fingerprint[:16]}"}


def delta(content: dict[str, Any], finish: str | None, logprobs: Sequence[NamedLogprob] | None) -> dict[str, Any]:
    """Returns the choice of a chunk.

    Args:
        content: the delta.
        finish: why the answer ended; None before.
        logprobs: of the chunk's tokens; None where none were asked for.
    """
    return {"index": 0, "delta": content, "logprobs": logprobs_of(logprobs), "finish_reason": finish}


def logprobs_of(logprobs: Sequence[NamedLogprob] | None) -> dict[str, Any] | None:
    """Returns log-probabilities of tokens as a choice holds them; None for none."""
    if logprobs is None:
        return None
    content = [
        _token(one.text, one.of.logprob)
        | {"top_logprobs": [_token(text, value) for text, (_, value) in zip(one.top, one.of.top, strict=True)]}
        for one in logprobs
    ]
    return {"content": content, "refusal": None}


def _token(text: bytes, logprob: float) -> dict[str, Any]:
    # JSON has no -inf: a token that a grammar rules out gets OpenAI's figure for the least likely.
    return {"token": text.decode("utf-8", "replace"), "logprob": max(logprob, -9999.0), "bytes": list(text)}


def finish_of(finish: str) -> str:
    """Returns OpenAI's word for the reason why a reply ended."""
    return "stop" if finish in ("stop", "interrupted") else "length"


def usage_of(statistics: Statistics) -> dict[str, Any]:
    """Returns the tokens of a question and its answer."""
    prompt, answer = statistics.prompt_tokens, statistics.new_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
        "prompt_tokens_details": {"cached_tokens": statistics.reused_tokens},
    }


def timings_of(statistics: Statistics) -> dict[str, Any]:
    """Returns times in milliseconds, under llama.cpp's names and our own."""
    rate = statistics.decode_tokens_per_s
    predicted = (statistics.new_tokens - 1) / rate * 1e3 if rate else 0.0
    return {
        "prompt_n": statistics.prompt_tokens - statistics.reused_tokens,
        "prompt_ms": round(statistics.prefill_ms, 3),
        "predicted_n": statistics.new_tokens,
        "predicted_ms": round(predicted, 3),
        "predicted_per_second": round(rate, 2),
        "image_encode_ms": round(statistics.image_encode_ms, 3),
        "ttft_ms": round(statistics.ttft_ms, 3),
        "peak_rss_mib": round(statistics.peak_rss_mib, 1),
    }
