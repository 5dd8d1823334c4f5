"""Fetching remote images without becoming a door to the network behind the server.

Only http and https on their usual ports, only public addresses; the address that was checked is the one that is
connected to, and every redirect is checked anew.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
from urllib.parse import urljoin, urlsplit

from .errors import ApiError

SECONDS = 10.0  # for all of it
REDIRECTS = 3
PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def fetch(url: str, max_bytes: int, param: str) -> bytes:
    """Returns what a URL on a public address holds.

    Args:
        url: http or https.
        max_bytes: most bytes of the body.
        param: field of the request, for errors.

    Raises:
        ApiError: it is not public, not there, too large or too slow.
    """
    end = time.monotonic() + SECONDS
    try:
        for _ in range(REDIRECTS + 1):
            status, location, body = _get(url, max_bytes, end, param)
            if location is None:
                if status != 200:
                    raise ApiError(400, f"the image's server answered with status {status}", param)
                return body
            url = urljoin(url, location)
        raise ApiError(400, f"the image's server redirects more than {REDIRECTS} times", param)
    except (OSError, http.client.HTTPException, ValueError):
        raise ApiError(400, "the image could not be fetched", param) from None


def _get(url: str, max_bytes: int, end: float, param: str) -> tuple[int, str | None, bytes]:
    """Makes one request: status, where it redirects to, and the body."""
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname or parts.port not in (None, PORTS[parts.scheme]):
        raise ApiError(400, "a remote image has to be http or https on its usual port", param)
    if parts.username or parts.password:
        raise ApiError(400, "a remote image's URL must not hold a password", param)
    address = public_address(parts.hostname, PORTS[parts.scheme], param)
    connection = http.client.HTTPConnection(parts.hostname, PORTS[parts.scheme])
    # What was checked is what is connected to: no second look-up of the name.
    sock = socket.create_connection((address, PORTS[parts.scheme]), timeout=_left(end))
    try:
        if parts.scheme == "https":
            sock = ssl.create_default_context().wrap_socket(sock, server_hostname=parts.hostname)
        connection.sock = sock
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", path, headers={"Accept": "image/*", "Connection": "close"})
        with connection.getresponse() as response:
            if 300 <= response.status < 400 and (location := response.getheader("Location")):
                return response.status, location, b""
            return response.status, None, _body(response, sock, max_bytes, end, param)
    finally:
        connection.close()
        sock.close()


def _body(response: http.client.HTTPResponse, sock: socket.socket, max_bytes: int, end: float, param: str) -> bytes:
    body = bytearray()
    while True:
        sock.settimeout(_left(end))  # a server that sends a byte now and then ends here, too
        chunk = response.read1(1 << 16)
        if not chunk:
            return bytes(body)
        body += chunk
        if len(body) > max_bytes:
            raise ApiError(400, f"the image has more than {max_bytes:,} bytes", param)


def _left(end: float) -> float:
    seconds = end - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def public_address(host: str, port: int, param: str) -> str:
    """Looks a name up; all of its addresses have to be public.

    Args:
        host: name or address.
        port: of the connection.
        param: field of the request, for errors.

    Returns:
        One of its addresses.

    Raises:
        ApiError: one is not.
        OSError: there is no such name.
    """
    addresses = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    if not addresses or not all(map(is_public, addresses)):
        raise ApiError(400, "a remote image has to be on a public address", param)
    return addresses[0]


def is_public(address: str) -> bool:
    """Returns whether an address is one of the open internet, also behind IPv6's ways to spell an IPv4 address."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if ip in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
        if ip.sixtofour is not None or ip.teredo is not None:
            return False
    return ip.is_global and not ip.is_multicast
