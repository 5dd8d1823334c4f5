"""Engines behind the server: turns, cancelling, crashes, several bundles, and an orderly end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from mobilevlm.runtime.server import engine
from mobilevlm.runtime.server.answer_request import AnswerRequest, Turn
from mobilevlm.runtime.server.turns import QueueFull, Turns
from tests.runtime.server.conftest import engine_pids, finished, serving, shown, slowed


def endless(server, **more):
    """A request whose answer goes on to the end of the context: all tokens are as likely as the one that ends it."""
    body = {"messages": shown("Describe the image."), "temperature": 100.0, "seed": 3, "stream": True} | more
    return server.http.stream("POST", "/v1/chat/completions", json=body)


def ask(server) -> httpx.Response:
    """A short request of its own connection."""
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    return httpx.post(f"{server.url}/v1/chat/completions", timeout=60, json=body)


def wait_until_waiting(server, count: int) -> None:
    end = time.monotonic() + 30
    while f"mobilevlm_waiting_requests {count}.0" not in httpx.get(f"{server.url}/metrics").text:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_client_that_hangs_up_ends_its_answer(server):
    with endless(server) as response:
        next(response.iter_lines())
        begin = time.monotonic()
    reply = server.chat("Hi", max_tokens=1)
    assert reply.status_code == 200 and time.monotonic() - begin < 5
    wait_until_waiting(server, 0)


def test_a_crash_costs_the_answers_that_wait_and_no_other(demo_fp32):
    with serving("--engine", f"demo={demo_fp32}") as server, ThreadPoolExecutor(4) as pool:
        (pid,) = engine_pids(server)
        os.kill(pid, signal.SIGSTOP)
        waiting = [pool.submit(ask, server) for _ in range(4)]
        wait_until_waiting(server, 3)
        os.kill(pid, signal.SIGKILL)
        for one in waiting:
            response = one.result()
            assert response.status_code == 503 and response.json()["error"]["code"] == "engine_crashed"
            assert int(response.headers["retry-after"]) <= 120
        again = server.chat(shown("What color is the circle?"))
        assert again.json()["choices"][0]["message"]["content"] == "The circle is red."
        assert 'mobilevlm_engine_restarts{model="demo"} 1.0' in server.http.get("/metrics").text


def test_an_engine_that_says_nothing_any_more_is_a_crash(demo_fp32, monkeypatch):
    monkeypatch.setattr(engine, "HUNG_SECONDS", 0.5)

    async def ask_hung() -> str:
        hung = engine.Engine("demo", str(demo_fp32))
        await hung.start()
        assert hung.pid is not None
        os.kill(hung.pid, signal.SIGSTOP)
        request = AnswerRequest([Turn(("Hi",), is_answer=False)], max_new_tokens=1)
        with pytest.raises(engine.EngineCrashed, match="ask again"):
            [event async for event in hung.answer(request)]
        last = [event async for event in hung.answer(request)][-1]
        hung.stop()
        return type(last).__name__

    assert finished(ask_hung()) == "Finished"


def test_a_crash_in_the_middle_of_a_stream_is_its_last_event(demo_fp32):
    with serving("--engine", f"demo={demo_fp32}") as server:
        (pid,) = engine_pids(server)
        with slowed(pid), endless(server) as response:
            lines = response.iter_lines()
            next(lines)
            os.kill(pid, signal.SIGKILL)
            rest = [line for line in lines if line]
        error = json.loads(rest[-1].removeprefix("data: "))["error"]
        assert error["code"] == "engine_crashed" and "data: [DONE]" not in rest


def test_a_full_queue_says_when_to_come_again(demo_fp32):
    with serving("--engine", f"demo={demo_fp32}", "--max-queue", "1") as server, ThreadPoolExecutor(2) as pool:
        (pid,) = engine_pids(server)
        os.kill(pid, signal.SIGSTOP)
        answered = pool.submit(ask, server)
        waits = pool.submit(ask, server)
        wait_until_waiting(server, 1)
        full = ask(server)
        os.kill(pid, signal.SIGCONT)
        assert full.status_code == 429 and full.json()["error"]["type"] == "rate_limit_error"
        assert 0 < int(full.headers["retry-after"]) <= 120
        assert (answered.result().status_code, waits.result().status_code) == (200, 200)


def test_several_bundles_are_served_by_name(demo_fp32, bundles):
    other = bundles["v2_ldpnetv2_336"]
    options = ["--engine", f"demo={demo_fp32}", "--engine", f"golden={other}", "--strict"]
    with serving(*options) as server:
        assert [model["id"] for model in server.http.get("/v1/models").json()["data"]] == ["demo", "golden"]
        said = {name: server.chat(shown("What is it?"), model=name, max_tokens=8).json() for name in ("demo", "golden")}
        assert said["demo"]["model"] == "demo" and said["golden"]["model"] == "golden"
        assert said["demo"]["system_fingerprint"] != said["golden"]["system_fingerprint"]
        missing = server.chat("Hi", model="gpt-4o")
        assert missing.status_code == 404 and missing.json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_an_orderly_end_finishes_the_answer_in_progress(demo_fp32, how):
    with serving("--engine", f"demo={demo_fp32}") as server:
        (pid,) = engine_pids(server)
        body = {"messages": shown("Describe the image."), "temperature": 100.0, "seed": 3, "max_tokens": 400}
        with server.http.stream("POST", "/v1/chat/completions", json=body | {"stream": True}) as response:
            lines = response.iter_lines()
            next(lines)
            server.process.send_signal(how)
            assert [line for line in lines if line][-1] == "data: [DONE]"
        assert server.process.wait(30) in (0, 130, 143, -how)
        server.process.stderr.close()
        assert not Path(f"/proc/{pid}").exists()


def test_a_server_that_is_killed_leaves_no_engine(demo_fp32):
    with serving("--engine", f"demo={demo_fp32}") as server:
        (pid,) = engine_pids(server)
        server.process.kill()
        server.process.wait()
        server.process.stderr.close()
        end = time.monotonic() + 10
        while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
            time.sleep(0.05)
        assert not Path(f"/proc/{pid}").exists()


def test_answers_of_many_clients_are_not_mixed(server):
    questions = ["What color is the circle?", "How many shapes are there?", "Is there a star?", "What is at the left?"]
    alone = {
        question: server.chat(shown(question)).json()["choices"][0]["message"]["content"] for question in questions
    }

    def ask(number: int) -> bool:
        question = questions[number % len(questions)]
        response = httpx.post(f"{server.url}/v1/chat/completions", json={"messages": shown(question)}, timeout=120)
        return response.json()["choices"][0]["message"]["content"] == alone[question]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(24)))


def test_turns_rotate_among_clients():
    """One client with five requests does not delay another's one by more than a turn."""
    order: list[str] = []

    async def ask(turns: Turns, client: str) -> None:
        async with turns.turn(client):
            await asyncio.sleep(0)
            order.append(client)

    async def all_of_them() -> None:
        turns = Turns(10)
        await asyncio.gather(*(ask(turns, client) for client in ["a", "a", "a", "a", "b", "c", "b"]))

    finished(all_of_them())
    assert order == ["a", "a", "b", "c", "a", "b", "a"]


def test_a_cancelled_wait_gives_its_place_back():
    async def scene() -> None:
        turns = Turns(1)
        async with turns.turn("a"):
            waiting = asyncio.ensure_future(turns.turn("b").__aenter__())
            await asyncio.sleep(0)
            assert turns.waiting == 1
            with pytest.raises(QueueFull):
                async with turns.turn("c"):
                    pass
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert turns.waiting == 0
        async with asyncio.timeout(1), turns.turn("d"):
            pass

    finished(scene())


def test_turns_survive_random_cancelling():
    """Whoever is cancelled, at any moment, the next ones still get their turn, one at a time."""
    import random

    async def scene(seed: int) -> None:
        draws, turns, inside = random.Random(seed), Turns(100), 0

        async def ask(client: str) -> None:
            nonlocal inside
            async with turns.turn(client):
                inside += 1
                assert inside == 1
                try:
                    await asyncio.sleep(0)
                finally:
                    inside -= 1

        tasks = [asyncio.ensure_future(ask(draws.choice("abc"))) for _ in range(30)]
        while not all(task.done() for task in tasks):
            if draws.random() < 0.5:
                draws.choice(tasks).cancel()
            await asyncio.sleep(0)
        assert turns.waiting == 0
        async with asyncio.timeout(1), turns.turn("z"):
            pass
        assert all(task.cancelled() or task.exception() is None for task in tasks)

    for seed in range(200):
        finished(scene(seed))


def test_an_answer_is_kept_while_the_person_reads_it(server):
    """The next turn runs its own question alone, also after another client's conversation."""

    def cached(messages: list) -> int:
        return server.chat(messages, max_tokens=64).json()["usage"]["prompt_tokens_details"]["cached_tokens"]

    first = shown("Describe the image. " + "Say which shapes there are, what colors they have, and where they are. ")
    answer = server.chat(first, max_tokens=64).json()["choices"][0]["message"]
    time.sleep(2)
    server.chat("Hi", max_tokens=1)  # of another conversation
    prompt = server.chat(first, max_tokens=1).json()["usage"]["prompt_tokens"]
    assert cached([*first, answer, {"role": "user", "content": "Which of them is red?"}]) > prompt
