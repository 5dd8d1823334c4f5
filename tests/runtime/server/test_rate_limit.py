"""Rate limit: what a client may ask at once and in the long run, against a count by hand; and through the server."""

from __future__ import annotations

import pytest

from mobilevlm.runtime.server.errors import ApiError
from mobilevlm.runtime.server.rate_limit import RateLimit
from tests.runtime.server.conftest import serving


def test_a_client_has_its_rate_in_the_long_run_and_all_of_it_at_once():
    now = [0.0]
    limit = RateLimit(60, lambda: now[0])
    taken = {"a": 0, "b": 0}
    for tick in range(600):  # of 0.1 s
        now[0] = tick / 10
        for client, often in (("a", 1), ("b", 20)):  # b asks once in two seconds
            try:
                if tick % often == 0:
                    limit.take(client)
                    taken[client] += 1
            except ApiError as error:
                assert client == "a" and error.status == 429 and error.retry_after == 1
    assert taken == {"a": 60 + 59, "b": 30}


def test_the_server_refuses_what_is_too_much(demo_fp32, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("one\ntwo\n")
    with serving("--engine", f"demo={demo_fp32}", "--api-key-file", keys, "--rate-limit", "5") as server:

        def statuses(key: str) -> list[int]:
            headers = {"x-api-key": key}
            return [server.http.get("/v1/models", headers=headers).status_code for _ in range(7)]

        assert statuses("one") == [200] * 5 + [429] * 2
        assert statuses("wrong") == [401] * 5 + [429] * 2
        assert statuses("two") == [200] * 5 + [429] * 2
        response = server.http.get("/v1/models", headers={"x-api-key": "one"})
        assert 1 <= int(response.headers["retry-after"]) <= 12
        assert response.json()["error"]["code"] == "rate_limit_exceeded"
        assert server.http.get("/health").status_code == 200


def test_a_rate_below_zero_is_refused(demo_fp32):
    with pytest.raises(AssertionError, match="--rate-limit is -1"), serving("--engine", demo_fp32, "--rate-limit", -1):
        pass
