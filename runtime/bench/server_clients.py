"""Clients of a server, each in a thread: what they were answered, and when."""

from __future__ import annotations

import base64
import http.client
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Answered:
    """One request with its answer.

    Attributes:
        question: what was asked.
        status: HTTP status, or 0 where the connection broke.
        text: the answer, or the error.
        ttft_s: seconds from the request to the first text; 0 without one.
        engine_ttft_s: of these, the engine's own: the rest is the queue and the server.
        tokens_per_s: decode rate in the engine.
        retry_after_s: seconds after which the server wants to be asked again, where it was busy.
    """

    question: str
    status: int
    text: str = ""
    ttft_s: float = 0.0
    engine_ttft_s: float = 0.0
    tokens_per_s: float = 0.0
    retry_after_s: float = 0.0


@dataclass
class Client:
    """A client with a connection of its own.

    Attributes:
        url: of the server.
        image: a `data:` URL, shown with each question.
        max_new_tokens: longest answer.
    """

    url: str
    image: str
    max_new_tokens: int
    answered: list[Answered] = field(default_factory=list)

    def ask(self, question: str) -> Answered:
        """Asks about the image, with a streamed answer."""
        parts = [{"type": "image_url", "image_url": {"url": self.image}}, {"type": "text", "text": question}]
        body = {"messages": [{"role": "user", "content": parts}], "stream": True, "max_tokens": self.max_new_tokens}
        address = urlsplit(self.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=300)
        begin = time.perf_counter()
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
            with connection.getresponse() as response:
                result = Answered(question, response.status)
                if response.status != 200:
                    result.retry_after_s = float(response.getheader("Retry-After", "0"))
                    result.text = response.read().decode()
                else:
                    _read(response, result, begin)
        except (OSError, http.client.HTTPException) as error:
            result = Answered(question, 0, str(error))
        finally:
            connection.close()
        self.answered.append(result)
        return result

    def ask_until(self, end: float, questions: Sequence[str], first: int) -> None:
        """Asks one question after the other.

        Args:
            end: `time.monotonic` after which no more are asked.
            questions: in turn.
            first: where to begin.
        """
        number = first
        while time.monotonic() < end:
            result = self.ask(questions[number % len(questions)])
            if result.retry_after_s:  # as clients do that respect it
                time.sleep(min(result.retry_after_s, max(end - time.monotonic(), 0)))
            else:
                number += 1


def _read(response: http.client.HTTPResponse, result: Answered, begin: float) -> None:
    for line in response:
        if not line.startswith(b"data: {"):
            continue
        chunk: dict[str, Any] = json.loads(line[6:])
        if "error" in chunk:
            result.status, result.text = 500, str(chunk["error"])
            return
        text = "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])
        if text and not result.ttft_s:
            result.ttft_s = time.perf_counter() - begin
        result.text += text
        if timings := chunk.get("timings"):
            result.engine_ttft_s, result.tokens_per_s = timings["ttft_ms"] / 1e3, timings["predicted_per_second"]


def data_url(image: Path) -> str:
    """Returns an image file as a `data:` URL."""
    return f"data:image/{image.suffix[1:].lower()};base64,{base64.b64encode(image.read_bytes()).decode()}"


def ask_at_once(
    url: str, image: str, questions: Sequence[str], count: int, seconds: float, longest: int
) -> list[Answered]:
    """Lets several clients ask for some time.

    Args:
        url: of the server.
        image: a `data:` URL.
        questions: in turn.
        count: how many clients.
        seconds: how long.
        longest: most tokens of an answer.
    """
    clients = [Client(url, image, longest) for _ in range(count)]
    end = time.monotonic() + seconds
    threads = [
        threading.Thread(target=client.ask_until, args=(end, questions, number))
        for number, client in enumerate(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [one for client in clients for one in client.answered]
