"""Images that the server fetches: from public addresses alone, also where names, redirects and bodies lie."""

from __future__ import annotations

import http.server
import socket
import threading

import pytest

from mobilevlm.runtime.server import remote_images
from mobilevlm.runtime.server.errors import ApiError
from mobilevlm.runtime.server.remote_images import fetch, is_public
from tests.runtime.server.conftest import shown


def answers(handler):
    """A local HTTP server that answers as `handler(path)` says: status, headers, body."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status, headers, body = handler(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    LOCAL.append(server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


LOCAL: list[http.server.ThreadingHTTPServer] = []


@pytest.fixture(autouse=True)
def local_servers_end():
    yield
    while LOCAL:
        server = LOCAL.pop()
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/x", "http://localhost/x", "http://[::1]/x", "http://0.0.0.0/x", "http://10.0.0.1/x",
        "http://169.254.169.254/latest/meta-data", "http://[::ffff:127.0.0.1]/x", "http://[64:ff9b::7f00:1]/x",
        "http://[2002:7f00:1::]/x", "http://2130706433/x", "http://0x7f.1/x", "http://017700000001/x",
        "http://example.com:8080/x", "http://user:pw@example.com/x", "https://127.1/x", "http:///x", "http://[fe80::1%25lo]/x",
        "ftp://example.com/x", "gopher://127.0.0.1/x",
    ],
)  # fmt: skip
def test_nothing_private_is_fetched(guarded, url):
    headers = {"x-api-key": "first-key"}
    response = guarded.http.post("/v1/chat/completions", headers=headers, json={"messages": shown("What?", url)})
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == "messages.0.content.1.image_url"


class Resolver:
    """Names and connections as a test wants them: a public address that leads to a local server."""

    def __init__(self, patch, port: int, addresses: list[list[str]]):
        self.asked, self.connected = 0, []

        def getaddrinfo(host, port, *_, **__):
            self.asked += 1
            given = addresses[min(self.asked, len(addresses)) - 1]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in given]

        def create_connection(address, timeout):
            self.connected.append(address[0])
            sock = socket.socket()  # `socket.create_connection` would look the address up
            sock.settimeout(timeout)
            sock.connect(("127.0.0.1", port))
            return sock

        patch.setattr(remote_images.socket, "getaddrinfo", getaddrinfo)
        patch.setattr(remote_images.socket, "create_connection", create_connection)


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(monkeypatch):
    """A name whose second answer is another address gains nothing: it is looked up once."""
    local = answers(lambda path: (200, {"Content-Type": "image/png"}, b"image of " + path.encode()))
    resolver = Resolver(monkeypatch, local.server_port, [["93.184.216.34"], ["127.0.0.1"]])
    assert fetch("http://rebind.example/cat.png?x=1", 1000, "p") == b"image of /cat.png?x=1"
    assert (resolver.asked, resolver.connected) == (1, ["93.184.216.34"])
    with pytest.raises(ApiError, match="public"):  # its second answer, in a second request
        fetch("http://rebind.example/cat.png", 1000, "p")
    assert len(resolver.connected) == 1


def test_a_name_with_one_private_address_is_refused(monkeypatch):
    resolver = Resolver(monkeypatch, 9, [["93.184.216.34", "192.168.0.1"]])
    with pytest.raises(ApiError, match="public"):
        fetch("http://both.example/", 1000, "p")
    assert resolver.connected == []


def test_redirects_are_checked_anew(monkeypatch):
    def redirecting(path):
        if path == "/ok":
            return 302, {"Location": "http://other.example/end"}, b""
        if path == "/end":
            return 200, {}, b"the end"
        return 302, {"Location": "http://inside.example/secret"}, b""

    local = answers(redirecting)
    public, private = ["93.184.216.34"], ["10.0.0.7"]
    resolver = Resolver(monkeypatch, local.server_port, [public, public, public, private])
    assert fetch("http://one.example/ok", 1000, "p") == b"the end"
    with pytest.raises(ApiError, match="public"):
        fetch("http://one.example/inside", 1000, "p")
    assert resolver.connected == public * 3


def test_fetched_bodies_end(monkeypatch):
    local = answers(lambda path: (200, {}, b"x" * 5000) if path == "/large" else (302, {"Location": "/again"}, b""))
    Resolver(monkeypatch, local.server_port, [["93.184.216.34"]])
    with pytest.raises(ApiError, match="more than 1,000 bytes"):
        fetch("http://one.example/large", 1000, "p")
    with pytest.raises(ApiError, match="redirects more than 3 times"):
        fetch("http://one.example/loop", 1000, "p")
    monkeypatch.setattr(remote_images, "SECONDS", 0.0)
    with pytest.raises(ApiError, match="could not be fetched"):
        fetch("http://one.example/large", 1000, "p")


def test_public_addresses():
    assert all(map(is_public, ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]))
    private = [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::",
        "fd00::1",
    ]
    assert not any(map(is_public, [*private, "fe80::1%eth0", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::1"]))
