"""A small RTSP server (RFC 2326) that plays images as Motion JPEG: RTP over the connection that asks, one client.

FFmpeg makes the RTP packets; this hands them on, each behind `$`, a channel and its length.
"""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections.abc import Iterable

import av
import numpy as np

SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\n"
# As RFC 2435 wants the tables of a JPEG image.
JPEG = {"force_duplicated_matrix": "1", "huffman": "default"}
OPTIONS = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"


class RtspServer:
    """Listens on a free port; each connection gets all images and is then closed.

    Args:
        images: (H, W, 3) uint8 each.
    """

    def __init__(self, images: Iterable[np.ndarray]):
        self.images, self.connections = list(images), 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"rtsp://127.0.0.1:{self.listener.getsockname()[1]}/stream"
        threading.Thread(target=self.serve, daemon=True).start()

    def close(self) -> None:
        self.listener.close()

    def serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            with client, client.makefile("rb") as lines:
                try:
                    self.talk(client, lines)
                except OSError:
                    pass

    def talk(self, client: socket.socket, lines) -> None:
        while request := lines.readline().decode():
            fields = dict(line.split(": ", 1) for line in iter(lambda: lines.readline().decode().strip(), ""))
            method, body, more = request.split()[0], "", "Session: 1\r\n"
            if method == "OPTIONS":
                more = OPTIONS
            elif method == "DESCRIBE":
                body, more = SDP, "Content-Type: application/sdp\r\n"
            elif method == "SETUP":
                assert re.search("RTP/AVP/TCP.*interleaved=0-1", fields["Transport"])
                more += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
            head = f"RTSP/1.0 200 OK\r\nCSeq: {fields['CSeq']}\r\n{more}Content-Length: {len(body)}\r\n\r\n"
            client.sendall((head + body).encode())
            if method == "PLAY":
                return self.play(client)

    def play(self, client: socket.socket) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as packets:
            packets.bind(("127.0.0.1", 0))
            packets.settimeout(0.2)
            target = f"rtp://127.0.0.1:{packets.getsockname()[1]}?localrtcpport=0"
            with av.open(target, "w", format="rtp") as container:
                stream = container.add_stream("mjpeg", rate=25, options=JPEG)
                stream.height, stream.width = self.images[0].shape[:2]
                stream.pix_fmt, stream.color_range = "yuvj420p", 2
                for image in self.images:
                    for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                        container.mux(packet)
                    self.hand_on(packets, client)
                    time.sleep(0.02)

    @staticmethod
    def hand_on(packets: socket.socket, client: socket.socket) -> None:
        while True:
            try:
                packet = packets.recv(65536)
            except TimeoutError:
                return
            if packet[1] & 0x7F == 26:  # of this type are the images; others are reports
                client.sendall(b"$\0" + struct.pack(">H", len(packet)) + packet)
                if packet[1] & 0x80:  # the last of an image
                    return
