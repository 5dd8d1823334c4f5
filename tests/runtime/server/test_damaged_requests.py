"""Damaged requests by the hundred: each is answered or refused, and the engine goes on."""

from __future__ import annotations

import json
import random

import pytest

from tests.runtime.server.conftest import shown


def mutated(draws: random.Random) -> bytes:
    """A chat request that was damaged: values of other types, keys gone, bytes flipped."""
    words = {
        "model": "demo", "messages": shown("Hi") if draws.random() < 0.2 else [{"role": "user", "content": "Hi"}],
        "max_tokens": 1, "temperature": 0.5, "stop": ["x"], "stream": draws.random() < 0.3, "logprobs": False,
        "response_format": {"type": "text"}, "seed": 1, "tools": [], "top_p": 0.5, "stream_options": {},
    }  # fmt: skip
    odd = [
        None,
        True,
        -1,
        1e308,
        "",
        "\x00",
        [],
        {},
        [[]],
        {"a": 1},
        10**30,
        "x" * 1000,
        float("inf"),
        0,
        "data:",
        "🦊",
    ]
    for _ in range(draws.randrange(4)):
        place = draws.choice(list(words))
        if place == "messages" and draws.random() < 0.7:
            message = words["messages"][0] if isinstance(words["messages"], list) and words["messages"] else {}
            if isinstance(message, dict):
                message[draws.choice(["role", "content", "name"])] = draws.choice(odd)
        else:
            words[place] = draws.choice(odd)
    body = bytearray(json.dumps(words).encode())
    for _ in range(draws.randrange(3) if draws.random() < 0.3 else 0):
        body[draws.randrange(len(body))] = draws.randrange(256)
    return bytes(body)


def fuzz(server, count: int, seed: int) -> dict[int, int]:
    """Sends damaged requests; returns how often each status came."""
    draws, statuses = random.Random(seed), {}
    for _ in range(count):
        response = server.http.post(
            draws.choice(["/v1/chat/completions"] * 8 + ["/v1/choose", "/api/chat"]),
            content=mutated(draws),
            headers={"content-type": "application/json"},
        )
        assert response.status_code < 500, (response.status_code, response.text, response.request.content[:500])
        statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
    return statuses


def test_damaged_requests_end_in_no_fault_of_the_server(server):
    statuses = fuzz(server, 200, 1)
    assert statuses[400] > 50 and statuses[200] > 20
    assert server.http.get("/health").json()["engines"] == {"demo": "ok"}


@pytest.mark.slow
def test_ten_thousand_damaged_requests(server):
    statuses = fuzz(server, 10_000, 2)
    assert set(statuses) <= {200, 400} and server.http.get("/health").json()["engines"] == {"demo": "ok"}
    assert 'mobilevlm_engine_restarts{model="demo"} 0.0' in server.http.get("/metrics").text
