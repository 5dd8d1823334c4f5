"""Runs the server: bundles opened first, then the socket, and an orderly end."""

from __future__ import annotations

import argparse
import socket
import sys
from collections.abc import Mapping, Sequence

import uvicorn

from mobilevlm.errors import UserError

from .app import make_app
from .engine import Engine
from .limits import HeadLimit
from .options import ServerOptions
from .service import Service

SHUTDOWN_SECONDS = 20  # for answers in progress


async def run(arguments: argparse.Namespace, directories: Mapping[str, str], keys: Sequence[str]) -> None:
    """Serves until a signal comes: answers in progress are finished, requests that wait get an error.

    Args:
        arguments: options of `serve.py`.
        directories: of the bundles, by name.
        keys: API keys.

    Raises:
        UserError: a bundle cannot be opened, or the port is taken.
    """
    options = ServerOptions(
        conv_mode=arguments.conv_mode,
        max_bytes=int(arguments.max_request_mb * 2**20),
        max_pixels=arguments.max_pixels,
        max_queue=arguments.max_queue,
        rate_limit=arguments.rate_limit,
        allow_remote_images=arguments.allow_remote_images,
        strict=arguments.strict,
        keys=keys,
        hosts=arguments.host_name,
        origins=arguments.allow_origin,
    )
    prefix_bytes = int(arguments.prefix_cache_mb * 2**20)
    words = (arguments.on_cpu, not arguments.no_check, prefix_bytes, arguments.trust, arguments.max_pixels)
    scrub = not arguments.no_scrub
    engines = [Engine(name, directory, *words, scrub=scrub) for name, directory in directories.items()]
    service = Service(engines, options.max_queue, options.strict)
    listening = _listen(arguments.host, arguments.port)
    try:
        print(f"opening {', '.join(directories)}", file=sys.stderr, flush=True)
        await service.start()
        config = uvicorn.Config(
            make_app(service, options),
            http=HeadLimit,
            ws="none",
            log_level="warning",
            access_log=False,
            ssl_certfile=arguments.tls_cert,
            ssl_keyfile=arguments.tls_key,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            server_header=False,
        )
        listening.listen(config.backlog)  # whoever reads the next line may connect
        _say_where(listening, bool(arguments.tls_cert))
        await uvicorn.Server(config).serve([listening])
    finally:
        service.stop()
        listening.close()


def _listen(host: str, port: int) -> socket.socket:
    """Takes the port before anything slow is done.

    Raises:
        UserError: it is taken, or the address is not this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        raise UserError(
            f"cannot listen on {host} port {port}: {error.strerror or error}; choose --host or --port"
        ) from None
    return listening


def _say_where(listening: socket.socket, tls: bool) -> None:
    host, port = listening.getsockname()[:2]
    name = f"[{host}]" if ":" in host else host
    print(f"serving http{'s' * tls}://{name}:{port} (API: /v1, page: /)", file=sys.stderr, flush=True)
