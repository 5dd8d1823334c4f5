"""A real server, started by the command line, and how tests ask it."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from tests.conftest import ROOT

T = TypeVar("T")
PICTURE = ROOT / "assets" / "shapes.png"
SERVE = ROOT / "runtime" / "serve.py"


class Server:
    """A server in a process of its own."""

    def __init__(self, process: subprocess.Popen, url: str):
        self.process, self.url = process, url
        self.http = httpx.Client(base_url=url, timeout=60)

    def chat(self, question: str | list, **more: Any) -> httpx.Response:
        messages = question if isinstance(question, list) else [{"role": "user", "content": question}]
        return self.http.post("/v1/chat/completions", json={"messages": messages} | more)

    def stop(self, how: int = signal.SIGTERM) -> int:
        self.http.close()
        self.process.send_signal(how)
        status = self.process.wait(30)
        self.process.stderr.close()
        return status


@contextmanager
def serving(*options: str | Path, **environment: str) -> Iterator[Server]:
    """A server at a free port, until the block ends."""
    words = [sys.executable, SERVE, "--port", "0", *options]
    process = subprocess.Popen(
        [str(word) for word in words], stderr=subprocess.PIPE, text=True, env=os.environ | environment, cwd=ROOT
    )
    lines = []
    for line in process.stderr:
        lines.append(line)
        if found := re.search(r"serving (https?://\S+)", line):
            break
    else:
        process.wait(30)
        process.stderr.close()
        raise AssertionError("".join(lines))
    server = Server(process, found[1])
    try:
        yield server
    finally:
        if process.poll() is None:
            server.stop()


@pytest.fixture(scope="module")
def server(demo_fp32) -> Iterator[Server]:
    with serving("--engine", f"demo={demo_fp32}") as started:
        yield started


def engine_pids(server: Server) -> list[int]:
    """Process ids of the engines, the first started first: the server's children but multiprocessing's tracker."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


@contextmanager
def slowed(pid: int) -> Iterator[None]:
    """Lets a process run for a twelfth of the time: the demo's engine ends its longest answer before a test can act."""
    ended = threading.Event()

    def hold() -> None:
        with suppress(ProcessLookupError):  # the test killed it
            while not ended.is_set():
                os.kill(pid, signal.SIGSTOP)
                time.sleep(0.055)
                os.kill(pid, signal.SIGCONT)
                time.sleep(0.005)

    holding = threading.Thread(target=hold)
    holding.start()
    try:
        yield
    finally:
        ended.set()
        holding.join()


def finished(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns: in a thread, for Playwright's loop runs in the main one, in whichever test it began."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def data_url(path: Path = PICTURE, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def shown(question: str, *urls: str) -> list[dict[str, Any]]:
    """Messages that show images behind the text, as most clients do."""
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls or (data_url(),)]
    return [{"role": "user", "content": [{"type": "text", "text": question}, *images]}]


@pytest.fixture(scope="module")
def guarded(demo_fp32, tmp_path_factory):
    """A server with keys and small limits."""
    keys = tmp_path_factory.mktemp("keys") / "keys.txt"
    keys.write_text("first-key\n\nsecond-key\n")
    options = ["--api-key-file", keys, "--max-request-mb", "0.5", "--max-pixels", "200000"]
    with serving("--engine", f"demo={demo_fp32}", *options, "--allow-remote-images") as server:
        yield server
