"""Errors of the API: a real status, and a body as OpenAI's."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


class ErrorFields(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """Body of a response that is an error."""

    error: ErrorFields


# For the description of the API.
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": text}
    for status, text in {
        400: "The request cannot be answered",
        401: "The API key is missing or wrong",
        403: "The page or the server's name is not allowed",
        404: "There is no such model",
        408: "The request came too slowly",
        413: "The request is too large",
        429: "The queue is full, or the client asks too often; Retry-After says when to come again",
        500: "The engine failed",
        503: "The engine crashed, its bundle is damaged or the server shuts down; Retry-After says when to come again",
    }.items()
}


class ApiError(Exception):
    """A request that is refused.

    Args:
        status: HTTP status.
        message: for the person.
        param: field at fault, None for none.
        code: for programs, such as `model_not_found`.
        retry_after: seconds after which the same request may be tried again; None where it would fail again.
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ):
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.retry_after = status, message, param, code, retry_after

    @property
    def body(self) -> dict[str, Any]:
        """JSON body of the response."""
        usual = "invalid_request_error" if self.status < 500 else "server_error"
        kind = TYPES.get(self.status, usual)
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the response."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
