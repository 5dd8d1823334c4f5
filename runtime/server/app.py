"""The web application: routes, errors in OpenAI's form, access, and request ids."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import PurePath
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException

import mobilevlm

from . import chat_route, neighbours
from .access import Access
from .answer_request import Chosen
from .engine import Engine
from .errors import ERRORS, ApiError
from .guard import Guard
from .limits import BodyLimit
from .openai_types import ChatRequest, ChooseRequest
from .options import ServerOptions
from .rate_limit import RateLimit
from .responses import error_response, to_json
from .service import Service
from .sse import HungUp

DAMAGED = "damaged"
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
PAGE = (
    *("index.html", "page.css", "icon.svg", "page.js", "api.js", "conversation.js", "figures.js", "image.js"),
    *("image_panel.js", "settings.js", "spoken.js"),
)
# The page loads nothing but its own files, asks nobody but this server, and is shown in no other page's frame.
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Makes a JSON response.

    Args:
        body: what it says.
        status: HTTP status.
        headers: further headers.
    """
    return Response(to_json(body), status, headers, "application/json")


def make_app(service: Service, options: ServerOptions) -> FastAPI:
    """Makes the application.

    Args:
        service: with the bundles, not yet open.
        options: of the server.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.stop()

    app = FastAPI(
        title="MobileVLM on the edge", version=mobilevlm.__version__, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    access, rate = Access(options.keys, options.hosts, options.origins), RateLimit(options.rate_limit)

    async def client_of(http: Request) -> str:
        address = http.client.host if http.client else ""
        try:
            client = access.client_of(http.headers, address)
        except ApiError:
            rate.take(address)  # of those who guess keys
            raise
        rate.take(client)
        return client

    client = Depends(client_of)
    _add_errors(app)
    app.add_middleware(BodyLimit, most_bytes=options.max_bytes)
    app.add_middleware(Guard, access=access, responded=service.metrics.responded)
    _add_chat(app, service, options, client)
    _add_facts(app, service, client)
    return app


def _add_chat(app: FastAPI, service: Service, options: ServerOptions, asks: Any) -> None:
    @app.post("/v1/chat/completions", responses=ERRORS | {200: _kinds("application/json", "text/event-stream")})
    @app.post("/chat/completions", include_in_schema=False)  # of clients whose base URL lacks /v1
    async def chat(body: ChatRequest, http: Request, client: str = asks) -> Response:
        """Answers a conversation, whole or as a stream."""
        return await chat_route.respond(body, http, service, options, client)

    @app.post("/v1/choose", responses=ERRORS)
    async def choose(body: ChooseRequest, http: Request, client: str = asks) -> Response:
        """Answers a closed question: a probability for each choice."""
        chosen, engine = await chat_route.choose(body, http, service, options, client)
        return json_response({"object": "choice", "model": engine.name} | chosen_fields(chosen))

    @app.post("/api/chat", responses=ERRORS | {200: _kinds("application/json", "application/x-ndjson")})
    async def ollama(body: neighbours.OllamaRequest, http: Request, client: str = asks) -> Response:
        """Answers in Ollama's form."""
        return await chat_route.respond_ollama(neighbours.chat_request_of(body), http, service, options, client)


def _kinds(*kinds: str) -> dict[str, Any]:
    """Describes the media types of a response."""
    return {"description": "The answer", "content": {kind: {} for kind in kinds}}


def chosen_fields(chosen: Chosen) -> dict[str, Any]:
    """Returns the answer to a closed question as JSON has it."""
    named = [
        {"choice": choice, "probability": probability}
        for choice, probability in zip(chosen.choices, chosen.probabilities, strict=True)
    ]
    return {"answer": chosen.answer, "choices": named}


def _add_facts(app: FastAPI, service: Service, asks: Any) -> None:
    engines = service.engines

    @app.get("/v1/models", responses=ERRORS)
    @app.get("/models", include_in_schema=False)
    async def models(_: str = asks) -> Response:
        """Lists the served bundles."""
        return json_response({"object": "list", "data": [neighbours.model_of(engine) for engine in engines.values()]})

    @app.get("/health", responses=ERRORS)
    async def health() -> Response:
        """Says whether the engines run; 503 where a bundle has rotted."""
        states = {name: _state_of(engine) for name, engine in engines.items()}
        damaged = DAMAGED in states.values()
        return json_response({"status": DAMAGED if damaged else "ok", "engines": states}, 503 if damaged else 200)

    @app.get("/metrics", responses=ERRORS | {200: _kinds("text/plain")})
    async def metrics(_: str = asks) -> Response:
        """Gives Prometheus' metrics."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/props", responses=ERRORS)
    async def props(_: str = asks) -> Response:
        """Gives what llama.cpp's clients ask for."""
        return json_response(neighbours.props_of(next(iter(engines.values())), mobilevlm.__version__))

    @app.get("/api/tags", responses=ERRORS)
    async def tags(_: str = asks) -> Response:
        """Lists the served bundles in Ollama's form."""
        return json_response(neighbours.tags_of(list(engines.values())))

    for name in PAGE:
        path = "/" if name == "index.html" else f"/{name}"
        app.add_api_route(path, _page(name), include_in_schema=False)


def _state_of(engine: Engine) -> str:
    """Returns what anybody may know of an engine: no path of a file."""
    if engine.damage is not None:
        return DAMAGED
    return "ok" if engine.is_alive else "restarts with the next request"


def _page(name: str) -> Callable[[], Awaitable[Response]]:
    content = (files(__package__) / "page" / name).read_bytes()

    async def page() -> Response:
        return Response(content, media_type=KINDS[PurePath(name).suffix], headers=PAGE_HEADERS)

    return page


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def api_error(_: Request, error: ApiError) -> Response:
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    @app.exception_handler(ValidationError)
    async def invalid(_: Request, error: RequestValidationError | ValidationError) -> Response:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "body")
        message = f"{place}: {first['msg']}" if place else str(first["msg"])
        return error_response(ApiError(400, message, place or None))

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> Response:
        return json_response(
            ApiError(error.status_code, str(error.detail)).body, error.status_code, dict(error.headers or {})
        )

    @app.exception_handler(HungUp)
    async def hung_up(_: Request, error: HungUp) -> Response:
        return Response(status_code=499)  # nobody reads it

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:
        return error_response(ApiError(500, f"the server failed: {type(error).__name__}"))
