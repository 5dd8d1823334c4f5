"""Serves engine bundles over HTTP: OpenAI's chat API, and a page to try them.

    python runtime/serve.py --engine DIR
    python runtime/serve.py --engine fast=DIR --engine good=DIR --port 8080
    python runtime/serve.py --engine DIR --host 0.0.0.0 --api-key-file keys.txt

Clients use http://127.0.0.1:8080/v1 as the base URL; a browser shows the page at http://127.0.0.1:8080.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a file: the repository root, not this folder, belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import asyncio
import math
import os

from mobilevlm.commands import run_command
from mobilevlm.engines.scrub import add_scrub
from mobilevlm.engines.trust import add_trust
from mobilevlm.errors import UserError
from mobilevlm.text.prompt import TEMPLATES
from mobilevlm.text_file import EncodingError, read_text

KEY_VARIABLE = "MOBILEVLM_API_KEY"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
LEAST = {"max_queue": 0, "max_request_mb": 0.01, "max_pixels": 1, "prefix_cache_mb": 0, "rate_limit": 0}


def parser() -> argparse.ArgumentParser:
    """Makes the parser of the command line."""
    self = argparse.ArgumentParser(
        prog="serve.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    self.add_argument(
        "--engine", action="append", required=True, metavar="[NAME=]DIR",
        help="a bundle, served under its folder's name or NAME; give it again for more",
    )  # fmt: skip
    add_trust(self)
    self.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine alone)"
    )
    self.add_argument("--port", type=int, default=8080, help="port (default: 8080; 0 takes a free one)")
    self.add_argument(
        "--api-key", action="append", default=[], metavar="KEY", help=f"a key to ask for; or {KEY_VARIABLE}"
    )
    self.add_argument("--api-key-file", metavar="FILE", help="keys to ask for, one a line: not seen by other users")
    self.add_argument("--insecure", action="store_true", help="listen on other addresses without a key or TLS")
    self.add_argument("--tls-cert", metavar="FILE", help="certificate chain (PEM), for https")
    self.add_argument("--tls-key", metavar="FILE", help="its key (PEM)")
    self.add_argument("--host-name", action="append", default=[], metavar="NAME", help="a name of this server")
    self.add_argument(
        "--allow-origin", action="append", default=[], metavar="ORIGIN",
        help="pages of this origin may ask, besides local ones; * for all, null for pages from files",
    )  # fmt: skip
    self.add_argument("--allow-remote-images", action="store_true", help="fetch http(s) images on public addresses")
    self.add_argument("--max-queue", type=int, default=32, metavar="N", help="most requests that wait (default: 32)")
    self.add_argument("--rate-limit", type=int, default=0, metavar="N", help="most requests of a client a minute")
    self.add_argument("--max-request-mb", type=float, default=20, metavar="MB", help="largest request (default: 20)")
    self.add_argument(
        "--max-pixels", type=int, default=25_000_000, metavar="N", help="largest image (default: 25 million)"
    )
    self.add_argument(
        "--prefix-cache-mb", type=float, default=256, metavar="MB",
        help="memory for what prompts begin with: system prompts, images, earlier turns (default: 256; 0 keeps none)",
    )  # fmt: skip
    self.add_argument("--conv-mode", choices=TEMPLATES, help="conversation template (default: the model's own)")
    self.add_argument("--strict", action="store_true", help="404 for a model that is not served, as OpenAI does")
    self.add_argument("--on-cpu", action="store_true", help="run bundles for another device on this CPU: slow")
    self.add_argument(
        "--no-check", action="store_true", help="do not run a bundle's sample when it is new on this machine"
    )
    add_scrub(self)
    return self


def serve(arguments: argparse.Namespace) -> None:
    """Opens the bundles and serves them until it is told to end.

    Raises:
        UserError: a bundle cannot be opened, or options that are not safe or contradict each other.
    """
    keys = _keys(arguments)
    _check(arguments, keys)
    try:
        from mobilevlm.runtime.server.run import run
    except ModuleNotFoundError as error:
        raise UserError(f"the server needs {error.name}: pip install 'mobilevlm[serve]'") from None
    asyncio.run(run(arguments, _engines(arguments.engine), keys))


def _engines(given: list[str]) -> dict[str, str]:
    """Returns directories by the names that they are served under."""
    engines: dict[str, str] = {}
    for text in given:
        name, equals, directory = text.partition("=")
        if not equals or "/" in name:
            name, directory = Path(text).resolve().name, text
        if name in engines:
            raise UserError(f"two bundles are named {name}: give them names, --engine NAME=DIR")
        engines[name] = directory
    return engines


def _keys(arguments: argparse.Namespace) -> list[str]:
    keys = [*arguments.api_key, os.environ.get(KEY_VARIABLE, "")]
    if arguments.api_key_file:
        try:
            keys += read_text(Path(arguments.api_key_file)).splitlines()
        except (OSError, EncodingError) as error:
            raise UserError(f"--api-key-file {arguments.api_key_file} cannot be read: {error}") from None
    return [key.strip() for key in keys if key.strip()]


def _check(arguments: argparse.Namespace, keys: list[str]) -> None:
    if arguments.host not in LOOPBACK and not keys and not arguments.insecure:
        raise UserError(
            f"--host {arguments.host} lets other machines in: give --api-key-file FILE (a key a line), "
            "or --insecure for a network that you trust"
        )
    if bool(arguments.tls_cert) != bool(arguments.tls_key):
        raise UserError("--tls-cert and --tls-key go together")
    for option in ("tls_cert", "tls_key"):
        if (path := getattr(arguments, option)) and not Path(path).is_file():
            raise UserError(f"--{option.replace('_', '-')} {path} is no file")
    if not 0 <= arguments.port <= 65535:
        raise UserError(f"--port is {arguments.port}; it has to be 0 to 65535")
    for option, least in LEAST.items():
        if not least <= (value := getattr(arguments, option)) < math.inf:
            raise UserError(f"--{option.replace('_', '-')} is {value}; it has to be at least {least}")


def main() -> None:
    """Entry point: exit status 0, 2 for a mistake of the person's, 1 for one of ours."""
    run_command(parser(), serve)


if __name__ == "__main__":
    main()
