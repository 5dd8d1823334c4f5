"""Where events go: lines of JSON, a real HTTP server that is slow, fails or sends elsewhere, a real MQTT exchange."""

import io
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mobilevlm.errors import UserError
from mobilevlm.runtime.camera.event import Event, JsonLines
from mobilevlm.runtime.camera.mqtt import Mqtt
from mobilevlm.runtime.camera.webhook import MOST_WAITING, Webhook
from tests.runtime.mqtt_broker import Broker


def event(number=0) -> Event:
    return Event("Is the door open?", "yes — ja", "no", {"yes": 0.9, "no": 0.1}, number, number / 10, 12.5)


def test_lines_of_json():
    stream = io.StringIO()
    sink = JsonLines(stream)
    sink(event(1))
    sink(event(2))
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first["answer"] == "yes — ja" and first["probabilities"] == {"yes": 0.9, "no": 0.1}
    assert (first["frame"], second["frame"]) == (1, 2)
    assert set(first) == {
        *("question", "answer", "previous", "probabilities", "frame", "frame_time_s", "answer_ms", "time")
    }


# --- webhook


class Server:
    """An HTTP server that answers with the next of some statuses, after a pause."""

    def __init__(self, *statuses, pause_s=0.0):
        self.statuses, self.bodies, self.agents = list(statuses), [], []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                outer.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                outer.agents.append((self.path, self.headers["Content-Type"]))
                time.sleep(pause_s)
                status = outer.statuses.pop(0) if outer.statuses else 200
                self.send_response(status)
                if status in (302, 307):
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self):
                outer.bodies.append("GET")
                self.send_error(500)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?a=1"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def test_events_are_posted_in_their_order_and_leaving_sends_the_last():
    notes = []
    with Server() as server, Webhook(server.url, notes.append) as sink:
        for number in range(20):
            sink(event(number))
    assert [body["frame"] for body in server.bodies] == list(range(20)) and notes == []
    assert set(server.agents) == {("/hook?a=1", "application/json")}


def test_a_slow_server_does_not_hold_up_the_watcher():
    notes = []
    with Server(pause_s=3.0) as server:
        with Webhook(server.url, notes.append, timeout_s=0.3, tries=2, first_pause_s=0.05) as sink:
            begin = time.perf_counter()
            for number in range(MOST_WAITING + 30):
                sink(event(number))
            assert time.perf_counter() - begin < 0.2
            begin = time.perf_counter()
        assert time.perf_counter() - begin < 1.0
    assert sum("the oldest of 256 waiting events is dropped" in note for note in notes) >= 29
    assert any("events that were not sent to http" in note for note in notes)


@pytest.mark.parametrize("statuses", [(500, 503), (429,), (408, 425)])
def test_a_server_that_fails_gets_the_event_again(statuses):
    notes = []
    with Server(*statuses) as server, Webhook(server.url, notes.append, first_pause_s=0.02) as sink:
        sink(event(7))
    assert [body["frame"] for body in server.bodies] == [7] * (len(statuses) + 1) and notes == []


@pytest.mark.parametrize("status", [400, 401, 404, 302, 307])
def test_a_server_that_refuses_or_sends_elsewhere_loses_the_event(status):
    """Following a redirect would GET the other address, without the event."""
    notes = []
    with Server(status) as server, Webhook(server.url, notes.append, first_pause_s=0.02) as sink:
        sink(event(1))
        sink(event(2))
    assert [body["frame"] for body in server.bodies] == [1, 2]
    assert notes == [f"an event was not sent to {server.url}: status {status}"]


def test_a_server_that_is_not_there():
    notes = []
    with Webhook("http://127.0.0.1:1/hook", notes.append, tries=3, first_pause_s=0.02) as sink:
        sink(event())
    assert len(notes) == 1 and "Connection refused" in notes[0]


def test_an_address_that_is_none():
    for url in ("ftp://host/x", "host/x", "http://", "file:///etc/passwd"):
        with pytest.raises(UserError, match="is not a web address"):
            Webhook(url, print)


# --- MQTT


def wait_until(condition, seconds=15.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


def test_events_are_published_and_acknowledged():
    notes = []
    with Broker() as broker:
        with Mqtt(f"mqtt://ann:s%40fe@127.0.0.1:{broker.port}/house/front%20door", notes.append) as sink:
            for number in range(5):
                sink(event(number))
        wait_until(lambda: broker.goodbyes == 1)
    assert [json.loads(one.payload)["frame"] for one in broker.published] == list(range(5))
    assert {(one.topic, one.qos, one.retain) for one in broker.published} == {("house/front door", 1, True)}
    assert broker.users == [("ann", "s@fe")] and notes == []


def test_a_password_in_the_environment(monkeypatch):
    monkeypatch.setenv("MQTT_PASSWORD", "secret")
    with Broker() as broker, Mqtt(f"mqtt://ann@127.0.0.1:{broker.port}/door", print):
        wait_until(lambda: broker.users == [("ann", "secret")])


def test_events_wait_for_a_broker_that_comes_later():
    notes = []
    with Broker() as first:
        port = first.port
    with Mqtt(f"mqtt://127.0.0.1:{port}/door", notes.append) as sink:
        wait_until(lambda: notes)
        assert "does not answer; trying again" in notes[0]
        begin = time.perf_counter()
        sink(event(1))
        sink(event(2))
        assert time.perf_counter() - begin < 0.1
        with Broker(port) as broker:
            wait_until(lambda: len(broker.published) == 2)
            wait_until(lambda: not sink._unsent)
    assert [json.loads(one.payload)["frame"] for one in broker.published] == [1, 2]


def test_leaving_without_a_broker_says_what_was_lost():
    notes = []
    with Mqtt("mqtt://127.0.0.1:1/door", notes.append, timeout_s=0.2) as sink:
        sink(event())
    assert notes[-1] == "events that did not reach the MQTT broker 127.0.0.1: 1"


def test_a_broker_that_refuses():
    notes = []
    with Broker(refuses=5) as broker, Mqtt(f"mqtt://127.0.0.1:{broker.port}/door", notes.append, timeout_s=0.1):
        wait_until(lambda: notes)
    assert "refuses: Not authorized" in notes[0]


def test_mqtt_addresses():
    for url in ("mqtt://host", "mqtt://host/a/#", "mqtt://host:x/a", "mqtt:///a", "http://host/topic", "host/topic"):
        with pytest.raises(UserError, match="--mqtt wants mqtt://HOST/TOPIC"):
            Mqtt(url, print)


def test_without_paho(monkeypatch):
    monkeypatch.setitem(sys.modules, "paho.mqtt", None)
    with pytest.raises(UserError, match=r"pip install 'mobilevlm\[mqtt\]'"):
        Mqtt("mqtt://host/topic", print)
