"""A small MQTT 3.1.1 broker for one kind of client: CONNECT, PUBLISH with QoS 0 or 1, PINGREQ, DISCONNECT.

Written from the standard's chapters 2 and 3; what does not belong there ends the connection.
"""

from __future__ import annotations

import socket
import struct
import threading
from dataclasses import dataclass, field

CONNECT, CONNACK, PUBLISH, PUBACK, PINGREQ, PINGRESP, DISCONNECT = 1, 2, 3, 4, 12, 13, 14


@dataclass
class Published:
    topic: str
    payload: bytes
    qos: int
    retain: bool


@dataclass
class Broker:
    """Listens on a free port, or on one that was free.

    Attributes:
        published: every message, in its order.
        users: name and password of every CONNECT.
        refuses: the return code of CONNACK; 0 accepts, 5 is not authorised.
    """

    port: int = 0
    refuses: int = 0
    published: list[Published] = field(default_factory=list)
    users: list[tuple[str | None, str | None]] = field(default_factory=list)
    goodbyes: int = 0

    def __enter__(self) -> Broker:
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self.listener.getsockname()[1]
        self.clients: list[socket.socket] = []
        threading.Thread(target=self.serve, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for client in self.clients:
            client.close()

    def serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.clients.append(client)
            threading.Thread(target=self.talk, args=[client], daemon=True).start()

    def talk(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as stream:
            try:
                while head := stream.read(1):
                    kind, flags, body = head[0] >> 4, head[0] & 15, stream.read(length_of(stream))
                    if kind == CONNECT:
                        self.connect(body)
                        client.sendall(bytes([CONNACK << 4, 2, 0, self.refuses]))
                    elif kind == PUBLISH:
                        if identifier := self.publish(flags, body):
                            client.sendall(bytes([PUBACK << 4, 2]) + identifier)
                    elif kind == PINGREQ:
                        client.sendall(bytes([PINGRESP << 4, 0]))
                    elif kind == DISCONNECT:
                        self.goodbyes += 1
                        return
            except OSError:
                pass

    def connect(self, body: bytes) -> None:
        name, rest = text_of(body)
        assert (name, rest[0]) == (b"MQTT", 4)  # protocol level of 3.1.1
        flags, (_, rest) = rest[1], text_of(rest[4:])  # behind the keep-alive: the client's identifier
        user = password = None
        if flags & 0x80:
            user, rest = text_of(rest)
        if flags & 0x40:
            password, rest = text_of(rest)
        self.users.append(tuple(None if one is None else one.decode() for one in (user, password)))

    def publish(self, flags: int, body: bytes) -> bytes:
        topic, rest = text_of(body)
        qos = flags >> 1 & 3
        identifier, payload = (rest[:2], rest[2:]) if qos else (b"", rest)
        self.published.append(Published(topic.decode(), payload, qos, bool(flags & 1)))
        return identifier


def length_of(stream) -> int:
    """The remaining length: seven bits a byte, the lowest first."""
    length = shift = 0
    while True:
        (byte,) = stream.read(1)
        length |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return length


def text_of(body: bytes) -> tuple[bytes, bytes]:
    """A string with its length of two bytes before it, and what follows."""
    (length,) = struct.unpack_from(">H", body)
    return body[2 : 2 + length], body[2 + length :]
