"""Decoding of images in a process of its own: one that takes too long or too much memory is ended and refused.

    with ImageProcess(config, max_pixels) as images:
        pixel_values = images.read(content)

The process is started with the first image and kept. Requests and replies are blocks behind their length.
"""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
import sys
import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import asdict
from json import dumps, loads
from pathlib import Path
from typing import IO

import numpy as np

from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.image import ImageError, ImageSpec, load_image, read_pixels

SECONDS = 15.0  # for one image, on a slow device
MEMORY = 2 << 30  # bytes of address space, of which images within the limits use a fifth
KEPT_BYTES = 64 << 20  # of pixels: each turn of a conversation shows its images again
_LENGTH = struct.Struct("<Q")
_READ, _REFUSED = b"r", b"x"
_HEAD = struct.Struct("<4sII")  # of pixels: kind of reply, and the first two sizes of their shape


class ImageProcess:
    """Process that decodes images, one after the other. Not for several threads at once.

    Args:
        config: of the model, for its preprocessing.
        max_pixels: most pixels of an image.
        seconds: longest time for one image.
    """

    def __init__(self, config: ModelConfig, max_pixels: int, seconds: float = SECONDS):
        self._config, self._max_pixels, self._seconds = config, max_pixels, seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._kept: OrderedDict[bytes, np.ndarray] = OrderedDict()

    @property
    def pid(self) -> int | None:
        """Process id; None while there is no process."""
        return self._process.pid if self._process else None

    def __enter__(self) -> ImageProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def read(self, content: bytes) -> np.ndarray:
        """Returns an image file's pixels, as `Session.read_image` does; those read last are kept.

        Raises:
            ImageError: it cannot be read, or takes too long or too much memory.
        """
        key = hashlib.sha256(content).digest()
        if key not in self._kept:
            self._kept[key] = self._decoded(content)
        self._kept.move_to_end(key)
        pixels = self._kept[key]
        while len(self._kept) > 1 and sum(one.nbytes for one in self._kept.values()) > KEPT_BYTES:
            self._kept.popitem(last=False)
        return pixels

    def _decoded(self, content: bytes) -> np.ndarray:
        process = self._process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None
        timer = threading.Timer(self._seconds, process.kill)
        timer.start()
        try:
            _send(process.stdin, content)
            reply = _receive(process.stdout)
        except OSError:
            reply = None
        finally:
            timer.cancel()
        if not reply:
            self.close()
            raise ImageError(
                f"The given image took more than {self._seconds:.0f} s or {MEMORY >> 20} MiB to decode. "
                "Save it anew as JPEG or PNG."
            )
        if reply[:1] == _REFUSED:
            raise ImageError(reply[1:].decode())
        _, first, second = _HEAD.unpack_from(reply)
        edge = self._config.tower.image_size
        shape = (first, second, *([3] if first > 1 else []), edge, edge)  # only an image in tiles has several rows
        return np.frombuffer(reply, np.float32, offset=_HEAD.size).reshape(shape)

    def _start(self) -> subprocess.Popen[bytes]:
        root = str(Path(sys.modules["mobilevlm"].__file__ or "").resolve().parents[1])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        program = f"from {__name__} import serve_images; serve_images()"
        words = [sys.executable, "-c", program, dumps(asdict(ImageSpec.of(self._config))), str(self._max_pixels)]
        return subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": path},
        )


def _send(pipe: IO[bytes], content: bytes) -> None:
    pipe.write(_LENGTH.pack(len(content)))
    pipe.write(content)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> bytes | None:
    """Returns a block; None when the other end is closed."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    size = _LENGTH.unpack(head)[0]
    content = pipe.read(size)
    return content if len(content) == size else None


def serve_images() -> None:
    """Answers on stdout what comes in on stdin until that is closed: entry point of the process."""
    spec, max_pixels = ImageSpec(**loads(sys.argv[1])), int(sys.argv[2])
    with suppress(ImportError, ValueError, OSError):  # no Linux or macOS, or a lower limit already
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with suppress(BrokenPipeError):
        while (content := _receive(sys.stdin.buffer)) is not None:
            try:
                values = read_pixels(load_image(content, max_pixels=max_pixels), spec)
                reply = _HEAD.pack(_READ, *values.shape[:2]) + values.tobytes()
            except ImageError as error:
                reply = _REFUSED + str(error).encode()
            _send(sys.stdout.buffer, reply)
