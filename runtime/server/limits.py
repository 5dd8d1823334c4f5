"""Limits of what a client may send: size and speed of a body, and of the head of a request."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from .errors import ApiError
from .responses import error_response

HEAD_SECONDS = 10.0
BODY_SECONDS = 30.0  # for all of it; an image of some megabytes over Wi-Fi takes a second


class BodyLimit:
    """ASGI middleware: reads the body, within a size and a time, before the application sees the request.

    Args:
        app: the application.
        most_bytes: largest body.
        seconds: longest time.
    """

    def __init__(self, app: ASGIApp, most_bytes: int, seconds: float = BODY_SECONDS):
        self._app, self._most_bytes, self._seconds = app, most_bytes, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request."""
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH", "DELETE"):
            await self._app(scope, receive, send)
            return
        try:
            body = await asyncio.wait_for(self._read(scope, receive), self._seconds)
        except asyncio.TimeoutError:
            error = ApiError(408, f"the request's body took longer than {self._seconds:.0f} s")
            await error_response(error)(scope, receive, send)
        except ApiError as error:
            await error_response(error)(scope, receive, send)
        else:
            await self._app(scope, _replay(body, receive), send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._most_bytes:
            raise self._too_large()
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ApiError(400, "the client hung up in the middle of its request")
            body += message.get("body", b"")
            if len(body) > self._most_bytes:
                raise self._too_large()
            if not message.get("more_body"):
                return bytes(body)

    def _too_large(self) -> ApiError:
        return ApiError(413, f"the request has more than {self._most_bytes:,} bytes (--max-request-mb)")


def _replay(body: bytes, receive: Receive) -> Receive:
    """Gives a body that was read already, then what comes after it."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


class HeadLimit(H11Protocol):
    """HTTP protocol of uvicorn that closes connections on which no whole head of a request comes in time.

    The first head has to follow the connection, a later one its own first byte: in between uvicorn's keep-alive counts.
    """

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Notes a new connection."""
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Takes bytes of a head or of a body."""
        cycle = self.cycle
        if self._waiting is None and cycle is not None and cycle.response_complete:
            self._wait_for_head()
        super().data_received(data)
        if self.cycle is not cycle:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets a connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        self._waiting = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
