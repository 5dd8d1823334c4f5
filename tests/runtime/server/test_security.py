"""The server against those who mean it harm: keys, names, origins, sizes, slow clients, and doors to other hosts."""

from __future__ import annotations

import base64
import http.server
import io
import json
import random
import socket
import threading
import time

import httpx
import pytest
from PIL import Image

from mobilevlm.runtime.server import remote_images
from mobilevlm.runtime.server.errors import ApiError
from mobilevlm.runtime.server.remote_images import fetch, is_public
from tests.runtime.server.conftest import serving, shown


@pytest.fixture(scope="module")
def guarded(demo_fp32, tmp_path_factory):
    """A server with keys and small limits."""
    keys = tmp_path_factory.mktemp("keys") / "keys.txt"
    keys.write_text("first-key\n\nsecond-key\n")
    options = ["--api-key-file", keys, "--max-request-mb", "0.5", "--max-pixels", "200000"]
    with serving("--engine", f"demo={demo_fp32}", *options, "--allow-remote-images") as server:
        yield server


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer"}, 401),
        ({"Authorization": "Bearer first"}, 401),
        ({"Authorization": "Basic first-key"}, 401),
        ({"Authorization": "Bearer first-key"}, 200),
        ({"Authorization": "bearer second-key"}, 200),
        ({"x-api-key": "first-key"}, 200),
        ({"x-api-key": "FIRST-KEY"}, 401),
        ({"Authorization": "Bearer", "x-api-key": "first-key"}, 200),
    ],
)
def test_keys(guarded, headers, status):
    for path in ("/v1/models", "/metrics", "/props", "/api/tags"):
        assert guarded.http.get(path, headers=headers).status_code == status
    response = guarded.http.post(
        "/v1/chat/completions", headers=headers, json={"messages": shown("Hi"), "max_tokens": 1}
    )
    assert response.status_code == status
    if status == 401:
        assert response.json()["error"]["type"] == "authentication_error"
    assert guarded.http.get("/health").status_code == 200  # of those who restart it


def test_other_addresses_need_a_key(demo_fp32, tmp_path):
    for options, message in (
        (["--host", "0.0.0.0"], "lets other machines in"),
        (["--tls-cert", "x.pem"], "go together"),
        (["--tls-cert", "x.pem", "--tls-key", "y.pem"], "is no file"),
        (["--port", "70000"], "0 to 65535"),
        (["--engine", f"demo={demo_fp32}"], "two bundles are named demo"),
        (["--engine", tmp_path], "bundle"),
    ):
        with pytest.raises(AssertionError, match=message), serving("--engine", f"demo={demo_fp32}", *options):
            pass


def test_names_and_origins(server):
    ask = server.http.get
    host = server.url.removeprefix("http://")
    assert ask("/v1/models", headers={"Host": "evil.example"}).status_code == 403  # DNS rebinding
    assert ask("/v1/models", headers={"Host": "localhost:1"}).status_code == 200
    for origin, status in (
        ("https://evil.example", 403),
        ("null", 403),
        ("http://localhost.evil.example", 403),
        ("http://localhost:3000", 200),
        (f"http://{host}", 200),
    ):
        response = ask("/v1/models", headers={"Origin": origin})
        assert response.status_code == status
        assert response.headers.get("access-control-allow-origin") == (origin if status == 200 else None)
    preflight = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
    preflight |= {"Access-Control-Request-Headers": "authorization, x-stainless-os"}
    response = server.http.options("/v1/chat/completions", headers=preflight)
    assert response.status_code == 204
    assert response.headers["access-control-allow-headers"] == "authorization, x-stainless-os"


@pytest.mark.parametrize(
    "path",
    [
        "/../etc/passwd",
        "/page/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%5c..%5cetc",
        "/page.js/..",
        "//etc",
    ],
)
def test_paths_that_climb_are_not_found(server, path):
    with socket.create_connection(
        ("127.0.0.1", int(server.url.rsplit(":")[-1])), 10
    ) as plain:  # httpx would tidy it up
        plain.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while chunk := plain.recv(4096):
            answer += chunk
    assert answer.split()[1] in (b"404", b"400", b"307") and b"root:" not in answer


def test_sizes(guarded):
    headers = {"x-api-key": "first-key"}
    huge = guarded.http.post("/v1/chat/completions", headers=headers, content=b"x" * 600_000)
    assert huge.status_code == 413 and "--max-request-mb" in huge.json()["error"]["message"]
    chunked = guarded.http.post("/v1/chat/completions", headers=headers, content=(b"x" * 60_000 for _ in range(10)))
    assert chunked.status_code == 413
    bomb = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(bomb, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(bomb.getvalue()).decode()}"
    response = guarded.http.post("/v1/chat/completions", headers=headers, json={"messages": shown("?", url)})
    assert response.status_code == 400 and "12000 x 12000 pixels" in response.json()["error"]["message"]
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")  # which Pillow does not even open
    url = f"data:image/png;base64,{base64.b64encode(bomb.getvalue()).decode()}"
    response = guarded.http.post("/v1/chat/completions", headers=headers, json={"messages": shown("?", url)})
    assert response.status_code == 400 and "too many pixels" in response.json()["error"]["message"]
    tiff = io.BytesIO()
    Image.new("RGB", (8, 8)).save(tiff, "TIFF")
    url = f"data:image/tiff;base64,{base64.b64encode(tiff.getvalue()).decode()}"
    response = guarded.http.post("/v1/chat/completions", headers=headers, json={"messages": shown("?", url)})
    assert response.status_code == 400 and "JPEG" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "application/json"),
        (b'{"messages": [{"role": "user", "content": "hi"}], "temperature": NaN}', "application/json"),
        (b'{"messages": [{"role": "user", "content": "hi"}], "seed": 1e999}', "application/json"),
        (b'{"messages": [{"role": "user", "content": "hi"}]}', "text/plain"),  # what a page may send unasked
        (b"\xff\xfe", "application/json"),
        (b'{"messages": {"role": "user"}}', "application/json"),
    ],
)
def test_malformed_bodies(server, body, kind):
    response = server.http.post("/v1/chat/completions", content=body, headers={"content-type": kind})
    assert response.status_code == 400, response.text
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_slow_clients_are_let_go_and_block_nobody(server):
    address = ("127.0.0.1", int(server.url.rsplit(":")[-1]))
    slow = [socket.create_connection(address, 20) for _ in range(50)]
    for one in slow:
        one.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nX-")
    begin = time.monotonic()
    assert server.chat("Hi", max_tokens=1).status_code == 200
    assert slow[-1].recv(1) == b""  # closed by the server
    assert time.monotonic() - begin < 15
    for one in slow:
        one.close()


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


def mutated(draws: random.Random) -> bytes:
    """A chat request that was damaged: values of other types, keys gone, bytes flipped."""
    words = {
        "model": "demo", "messages": shown("Hi") if draws.random() < 0.2 else [{"role": "user", "content": "Hi"}],
        "max_tokens": 1, "temperature": 0.5, "stop": ["x"], "stream": draws.random() < 0.3, "logprobs": False,
        "response_format": {"type": "text"}, "seed": 1, "tools": [], "top_p": 0.5, "stream_options": {},
    }  # fmt: skip
    odd = [
        None,
        True,
        -1,
        1e308,
        "",
        "\x00",
        [],
        {},
        [[]],
        {"a": 1},
        10**30,
        "x" * 1000,
        float("inf"),
        0,
        "data:",
        "🦊",
    ]
    for _ in range(draws.randrange(4)):
        place = draws.choice(list(words))
        if place == "messages" and draws.random() < 0.7:
            message = words["messages"][0] if isinstance(words["messages"], list) and words["messages"] else {}
            if isinstance(message, dict):
                message[draws.choice(["role", "content", "name"])] = draws.choice(odd)
        else:
            words[place] = draws.choice(odd)
    body = bytearray(json.dumps(words).encode())
    for _ in range(draws.randrange(3) if draws.random() < 0.3 else 0):
        body[draws.randrange(len(body))] = draws.randrange(256)
    return bytes(body)


def fuzz(server, count: int, seed: int) -> dict[int, int]:
    """Sends damaged requests; returns how often each status came."""
    draws, statuses = random.Random(seed), {}
    for _ in range(count):
        response = server.http.post(
            draws.choice(["/v1/chat/completions"] * 8 + ["/v1/choose", "/api/chat"]),
            content=mutated(draws),
            headers={"content-type": "application/json"},
        )
        assert response.status_code < 500, (response.status_code, response.text, response.request.content[:500])
        statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
    return statuses


def test_damaged_requests_end_in_no_fault_of_the_server(server):
    statuses = fuzz(server, 200, 1)
    assert statuses[400] > 50 and statuses[200] > 20
    assert server.http.get("/health").json()["engines"] == {"demo": "ok"}


@pytest.mark.slow
def test_ten_thousand_damaged_requests(server):
    statuses = fuzz(server, 10_000, 2)
    assert set(statuses) <= {200, 400} and server.http.get("/health").json()["engines"] == {"demo": "ok"}
    assert 'mobilevlm_engine_restarts{model="demo"} 0.0' in server.http.get("/metrics").text


def test_text_of_a_client_cannot_break_a_response(server):
    with httpx.Client(base_url=server.url) as http:
        response = http.get("/v1/models", headers={"X-Request-Id": "mine-1"})
        assert response.headers["x-request-id"] == "mine-1"
        odd = http.get("/v1/models", headers={"X-Request-Id": "a" * 500})
        assert odd.headers["x-request-id"].startswith("req_")
