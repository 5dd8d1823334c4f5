"""Frames of a source, and the newest of them for a reader slower than the source: a frame that was not taken is lost.

A source is opened again when it ends or breaks, after pauses that double; a file ends for good.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Protocol

import numpy as np
from PIL import Image

from mobilevlm.errors import UserError

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
# How long closing waits for a reader thread that is inside a library's call; the thread is a daemon.
_JOIN_S = 2.0


class Frame(Protocol):
    """One frame of a source.

    Attributes:
        number: count of the source's frames before it, those that nobody took included.
        time: seconds, of the file for a file and of `time.monotonic` for what is live.
    """

    @property
    def number(self) -> int:
        """Count of the frames before it."""

    @property
    def time(self) -> float:
        """Time in seconds."""

    def thumbnail(self, width: int, height: int) -> np.ndarray:
        """Returns the means of the frame's cells.

        Args:
            width: number of cells in a row.
            height: number of rows.

        Returns:
            (3, height, width) uint8: luma and the two chroma planes.
        """

    def image(self) -> Image.Image:
        """Returns the frame as an RGB image."""


class ArrayFrame:
    """A frame that is an array.

    Args:
        pixels: (H, W, 3) uint8, RGB.
        number: see `Frame`.
        time: see `Frame`.
    """

    def __init__(self, pixels: np.ndarray, number: int, time: float):
        self.pixels, self.number, self.time = pixels, number, time

    def thumbnail(self, width: int, height: int) -> np.ndarray:
        """Returns the means of the frame's cells; see `Frame`."""
        small = self.image().resize((width, height), Image.Resampling.BOX).convert("YCbCr")
        return np.asarray(small).transpose(2, 0, 1)

    def image(self) -> Image.Image:
        """Returns the frame as an RGB image."""
        return Image.fromarray(self.pixels)


class SourceError(UserError):
    """A source that cannot be opened, or that broke."""


class Source(Protocol):
    """What frames come from.

    Attributes:
        name: as the user typed it.
        is_live: whether it goes on by itself, so that frames nobody takes are lost, and its end is a fault.
    """

    name: str
    is_live: bool

    def frames(self) -> Generator[Frame, None, None]:
        """Opens the source and yields its frames until it ends.

        Raises:
            SourceError: it cannot be opened, or it broke.
        """


def at_own_rate(frames: Iterator[Frame]) -> Iterator[Frame]:
    """Yields the frames of a file when their time has come."""
    start: float | None = None
    for frame in frames:
        now = time.monotonic()
        start = now - frame.time if start is None else start
        time.sleep(max(0.0, start + frame.time - now))
        yield frame


class NewestFrame:
    """A thread that reads a source and keeps its newest frame. Use it in a `with` statement, and iterate over it.

    Args:
        source: what to read.
        note: called with a sentence for the user when the source breaks and when it is back.
        first_pause_s: seconds before a live source is opened again; doubled with every failure in a row.
    """

    def __init__(self, source: Source, note: Callable[[str], object], first_pause_s: float = FIRST_PAUSE_S):
        self._source, self._note, self._first_pause_s = source, note, first_pause_s
        self._changed = threading.Condition()
        self._newest: Frame | None = None
        self._error: BaseException | None = None
        self._count, self._ended, self._closing = 0, False, threading.Event()
        self._thread = threading.Thread(target=self._read_all, name="frames", daemon=True)

    def __enter__(self) -> NewestFrame:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join(_JOIN_S)

    def __iter__(self) -> Iterator[Frame]:
        """Yields the newest frame that was not yielded yet, waiting for one; ends with a file.

        Raises:
            SourceError: the source could not be opened the first time, or a file broke.
        """
        while True:
            with self._changed:
                while self._newest is None and not self._ended:
                    self._changed.wait(1.0)  # not for ever: Ctrl-C is noticed between waits on every platform
                frame, self._newest = self._newest, None
            if frame is not None:
                yield frame
            elif self._error is not None:
                raise self._error
            else:
                return

    def _read_all(self) -> None:
        try:
            self._reopen() if self._source.is_live else self._read(at_own_rate(self._source.frames()))
        except BaseException as error:  # handed to the thread that iterates
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _read(self, frames: Iterator[Frame]) -> None:
        """Keeps the newest frame until they end."""
        for frame in frames:
            if self._closing.is_set():
                return
            self._count += 1
            with self._changed:
                self._newest = frame
                self._changed.notify_all()

    def _reopen(self) -> None:
        pause = self._first_pause_s
        while not self._closing.is_set():
            problem, before = "the source ended", self._count
            try:
                with closing(self._source.frames()) as frames:
                    self._read(self._announced(frames) if before else frames)
            except SourceError as error:
                if not self._count:
                    raise
                problem = str(error)
            if self._closing.is_set():
                return
            if not self._count:
                raise SourceError(f"{self._source.name} ended before its first frame")
            pause = self._first_pause_s if self._count > before else pause
            self._note(f"{problem}; opening {self._source.name} again in {pause:g} s")
            self._closing.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _announced(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        for index, frame in enumerate(frames):
            if index == 0:
                self._note(f"{self._source.name} is back")
            yield frame
