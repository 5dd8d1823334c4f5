"""Options of a server that its routes read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ServerOptions:
    """Options of a server.

    Attributes:
        conv_mode: conversation template of all questions; None for the model's own.
        max_bytes: largest body of a request, and largest remote image.
        max_pixels: most pixels of an image.
        max_queue: most requests that wait.
        rate_limit: most requests of a client in a minute; 0 for no limit.
        allow_remote_images: whether http(s) images on public addresses are fetched.
        strict: whether a request for a model that is not served is an error.
        keys: API keys, one of which a request has to bring; empty asks for none.
        hosts: names of the server besides `localhost`.
        origins: origins of pages that may ask, besides local ones.
    """

    conv_mode: str | None = None
    max_bytes: int = 20 << 20
    max_pixels: int = 25_000_000
    max_queue: int = 32
    rate_limit: int = 0
    allow_remote_images: bool = False
    strict: bool = False
    keys: Sequence[str] = ()
    hosts: Sequence[str] = ()
    origins: Sequence[str] = ()
