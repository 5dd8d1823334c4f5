"""The server against those who mean it harm: keys, names, origins, sizes, slow clients, and doors to other hosts."""

from __future__ import annotations

import base64
import io
import socket
import time

import httpx
import pytest
from PIL import Image

from tests.runtime.server.conftest import serving, shown


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
    for one in slow[25:]:  # a connection that was answered before
        one.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert one.recv(4096).startswith(b"HTTP/1.1 200")
    for one in slow:
        one.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nX-")
    begin = time.monotonic()
    assert server.chat("Hi", max_tokens=1).status_code == 200
    for one in slow:
        while one.recv(4096):  # the end of an answer, then closed by the server
            pass
    assert time.monotonic() - begin < 15
    for one in slow:
        one.close()


def test_text_of_a_client_cannot_break_a_response(server):
    with httpx.Client(base_url=server.url) as http:
        response = http.get("/v1/models", headers={"X-Request-Id": "mine-1"})
        assert response.headers["x-request-id"] == "mine-1"
        odd = http.get("/v1/models", headers={"X-Request-Id": "a" * 500})
        assert odd.headers["x-request-id"].startswith("req_")
