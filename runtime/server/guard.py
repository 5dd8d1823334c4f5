"""What every request passes: the server's name, the origin of a page, CORS headers, a request id, and a count."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .access import Access
from .errors import ApiError
from .responses import error_response

HEADERS = "Authorization, Content-Type, X-Api-Key, X-Request-Id, OpenAI-Organization, OpenAI-Project"


class Guard:
    """ASGI middleware around the application.

    Args:
        app: the application.
        access: rules of access.
        responded: counts a response, by path of its route and status.
    """

    def __init__(self, app: ASGIApp, access: Access, responded: Callable[[str, int], None]):
        self._app, self._access, self._responded = app, access, responded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin, more = headers.get("origin"), {"X-Request-Id": request_id(headers), "X-Content-Type-Options": "nosniff"}

        async def send_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(more)
                route = scope.get("route")
                self._responded(getattr(route, "path", "other"), message["status"])
            await send(message)

        app: ASGIApp = self._app
        try:
            self._check(headers, origin)
            if origin is not None:
                more |= _cors(origin, headers.get("access-control-request-headers", HEADERS))
                if scope["method"] == "OPTIONS":
                    app = Response(status_code=204)
        except ApiError as error:
            app = error_response(error)
        await app(scope, receive, send_more)

    def _check(self, headers: Headers, origin: str | None) -> None:
        host = headers.get("host", "")
        self._access.check_host(host)
        if origin is not None and not self._access.allows_origin(origin, host):
            raise ApiError(403, f"pages of {origin} may not ask: start the server with --allow-origin {origin}")


def _cors(origin: str, asked: str) -> dict[str, str]:
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
        "Access-Control-Allow-Headers": asked,
        "Access-Control-Expose-Headers": "X-Request-Id, Retry-After",
        "Access-Control-Max-Age": "600",
        "Vary": "Origin",
    }


def request_id(headers: Headers) -> str:
    """Returns the client's id of a request, where it has one that a header can carry, or a new one."""
    given = headers.get("x-request-id", "")
    usable = 0 < len(given) <= 128 and given.isascii() and given.isprintable()
    return given if usable else f"req_{uuid.uuid4().hex}"
