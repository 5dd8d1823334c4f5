"""Events published to an MQTT broker by paho-mqtt, whose thread connects, connects again and sends what is waiting."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from mobilevlm.errors import UserError

from .event import Event

MOST_WAITING = 256  # events
PASSWORD = "MQTT_PASSWORD"  # variable for a password that should not stand in a command line


class Mqtt:
    """A sink that publishes events as JSON, retained and at least once. Use it in a `with` statement.

    Args:
        url: mqtt://[USER[:PASSWORD]@]HOST[:PORT]/TOPIC; mqtts for TLS.
        note: called with a sentence for the user when the broker is lost and when events are.
        timeout_s: seconds that leaving waits for the broker to have the last event.

    Raises:
        UserError: the address is not of that form, or paho-mqtt is not installed.
    """

    def __init__(self, url: str, note: Callable[[str], object], *, timeout_s: float = 5.0):
        try:
            from paho.mqtt import client as paho
        except ImportError:
            raise UserError("MQTT needs paho-mqtt, which is not installed: pip install 'mobilevlm[mqtt]'") from None
        parts = urlsplit(url, allow_fragments=False)
        self._topic = unquote(parts.path.lstrip("/"))
        is_topic = self._topic and not set(self._topic) & set("#+")
        try:
            port = parts.port or (8883 if parts.scheme == "mqtts" else 1883)
        except ValueError:
            port = None
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or port is None or not is_topic:
            raise UserError("--mqtt wants mqtt://HOST/TOPIC or mqtts://HOST/TOPIC, a topic without # and +")
        self._host, self._port = parts.hostname, port
        self._note, self._timeout_s = note, timeout_s
        self._unsent, self._changed = 0, threading.Condition()
        self._queue_is_full = paho.MQTT_ERR_QUEUE_SIZE
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self._client.max_queued_messages_set(MOST_WAITING)
        self._client.on_connect, self._client.on_connect_fail = self._connected, self._not_connected
        self._client.on_publish = self._published
        self._client.reconnect_delay_set(1, 30)
        if parts.username:
            password = unquote(parts.password) if parts.password else os.environ.get(PASSWORD)
            self._client.username_pw_set(unquote(parts.username), password)
        if parts.scheme == "mqtts":
            self._client.tls_set()

    def __enter__(self) -> Mqtt:
        self._client.connect_async(self._host, self._port)
        self._client.loop_start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._unsent, self._timeout_s)
        if self._unsent:
            self._note(f"events that did not reach the MQTT broker {self._host}: {self._unsent}")
        self._client.disconnect()
        self._client.loop_stop()

    def __call__(self, event: Event) -> None:
        """Publishes an event; without a connection it waits, as `MOST_WAITING` others may."""
        with self._changed:
            self._unsent += 1
        if self._client.publish(self._topic, event.to_json(), qos=1, retain=True).rc == self._queue_is_full:
            self._note(f"{MOST_WAITING} events wait for the MQTT broker {self._host}: this one is dropped")
            self._published()

    def _published(self, *_: object) -> None:
        with self._changed:
            self._unsent -= 1
            self._changed.notify_all()

    def _connected(self, _client: object, _data: object, _flags: object, reason: Any, _properties: object) -> None:
        if reason.is_failure:
            self._note(f"the MQTT broker {self._host} refuses: {reason}")

    def _not_connected(self, _client: object, _data: object) -> None:
        self._note(f"the MQTT broker {self._host}:{self._port} does not answer; trying again")
