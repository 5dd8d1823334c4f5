"""Who may ask: API keys, the names under which the server is reached, and pages of other origins."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable, Mapping

from .errors import ApiError

_LOCAL_ORIGIN = re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")


class Access:
    """Rules of access.

    Args:
        keys: API keys, one of which a request has to bring; empty asks for none.
        hosts: names of the server besides `localhost` and addresses.
        origins: origins of pages that may ask, besides those on this machine and the server's own; `*` allows all,
            `null` pages without an origin, such as files.
    """

    def __init__(self, keys: Iterable[str] = (), hosts: Iterable[str] = (), origins: Iterable[str] = ()):
        self._keys = [_digest(key) for key in keys]
        self._hosts, self._origins = {host.lower() for host in hosts}, set(origins)

    def client_of(self, headers: Mapping[str, str], address: str) -> str:
        """Returns who asks, for turns in the queue: a key's digest, or the address where no keys are asked for.

        Args:
            headers: of the request.
            address: of the client.

        Raises:
            ApiError: the key is missing or wrong.
        """
        if not self._keys:
            return address
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = token.strip() if scheme.lower() == "bearer" and token.strip() else headers.get("x-api-key", "").strip()
        if not given:
            raise ApiError(401, "an API key is needed: Authorization: Bearer KEY, or x-api-key", code="missing_api_key")
        digest = _digest(given)
        # All are compared, each in constant time: how long it takes says nothing of a key.
        if not any([hmac.compare_digest(digest, key) for key in self._keys]):
            raise ApiError(401, "the API key is wrong", code="invalid_api_key")
        return digest.hex()

    def check_host(self, host: str) -> None:
        """Refuses names that are not the server's: a page's own name may be pointed at this machine (DNS rebinding).

        Raises:
            ApiError: a name that it does not know.
        """
        name = re.sub(r":\d+$", "", host).strip("[]").lower()
        if self._keys or name == "localhost" or name in self._hosts or _is_address(name):
            return
        raise ApiError(403, "the server is not known under this name: start it with --host-name NAME")

    def allows_origin(self, origin: str, host: str) -> bool:
        """Returns whether a page may ask.

        Args:
            origin: of the page.
            host: the request's `Host`.
        """
        same = origin.partition("://")[2].lower() == host.lower()
        local = _LOCAL_ORIGIN.fullmatch(origin.lower()) is not None
        return same or local or origin in self._origins or ("*" in self._origins and origin != "null")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
