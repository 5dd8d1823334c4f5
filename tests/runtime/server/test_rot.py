"""A server whose bundle rots while it runs: it says so, answers nobody from it, and goes on when it is mended."""

from __future__ import annotations

import json
import shutil
import time

import pytest

from mobilevlm.runtime import Session
from tests.faults.test_rot import rot

from .conftest import engine_pids, serving, slowed

SOON = 300.0  # seconds until a demo bundle was read at its usual pace, on a busy machine


@pytest.fixture
def demo_copy(demo_fp32, tmp_path):
    Session(demo_fp32).close()  # checked on this machine
    return shutil.copytree(demo_fp32, tmp_path / "demo")


def refused_for(response, name):
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["type"]) == (503, "bundle_damaged", "server_error"), error
    assert f"is damaged: {name} was altered" in error["message"] and "Copy it again" in error["message"]


def damaged(server):
    return 'mobilevlm_engine_damaged{model="demo"} 1.0' in server.http.get("/metrics").text


def test_rot_is_said_while_nobody_asks_and_mending_is_seen(demo_copy):
    with serving("--engine", f"demo={demo_copy}") as server:
        assert server.chat("What color is the circle?").status_code == 200 and not damaged(server)
        rot(demo_copy / "decoder.weights")
        end = time.monotonic() + SOON
        while (health := server.http.get("/health")).status_code == 200 and time.monotonic() < end:
            time.sleep(0.1)
        assert health.status_code == 503 and health.json() == {"status": "damaged", "engines": {"demo": "damaged"}}
        assert damaged(server) and str(demo_copy) not in health.text  # which asks for no key
        end = time.monotonic() + 10
        while engine_pids(server) and time.monotonic() < end:
            time.sleep(0.1)
        assert not engine_pids(server)
        for _ in range(2):  # each starts a process that hashes the files
            refused_for(server.chat("What color is the circle?"), "decoder.weights")
        assert server.http.get("/health").status_code == 503
        rot(demo_copy / "decoder.weights")  # a second flip mends it
        assert server.chat("What color is the circle?").status_code == 200
        assert server.http.get("/health").json() == {"status": "ok", "engines": {"demo": "ok"}} and not damaged(server)


@pytest.mark.slow
def test_an_answer_in_progress_ends_with_the_error(demo_copy):
    with serving("--engine", f"demo={demo_copy}") as server:
        rot(demo_copy / "vision.weights")
        [pid] = engine_pids(server)
        end = time.monotonic() + SOON
        while time.monotonic() < end:
            body = {"messages": [{"role": "user", "content": "Tell me about it."}], "stream": True, "max_tokens": 400}
            with slowed(pid), server.http.stream("POST", "/v1/chat/completions", json=body) as answer:
                if answer.status_code != 200:  # noticed between two answers
                    answer.read()
                    refused_for(answer, "vision.weights")
                    break
                events = [line[6:] for line in answer.iter_lines() if line.startswith("data: ")]
            if events[-1] != "[DONE]":
                error = json.loads(events[-1])["error"]
                assert error["code"] == "bundle_damaged" and "vision.weights was altered" in error["message"]
                break
        else:
            raise AssertionError("it was not noticed")


def test_no_scrub_is_an_option(demo_copy):
    with serving("--engine", f"demo={demo_copy}", "--no-scrub") as server:
        rot(demo_copy / "decoder.weights")
        time.sleep(7)
        assert server.chat("What color is the circle?").status_code == 200
        assert server.http.get("/health").json()["status"] == "ok"
