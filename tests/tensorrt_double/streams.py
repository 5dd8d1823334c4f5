"""Streams whose work is done as late as the hardware may do it: when somebody waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from .settings import Violation


@dataclass(eq=False)
class Work:
    """One operation.

    Attributes:
        run: does it.
        check: raises `Violation` when what it was captured with is not so any more; called when a graph is launched.
        begin: what is so from the moment it is handed in: a result that is not there yet, for one.
        block: (address, size) of scratch memory it needs for itself.
    """

    run: Callable[[], None]
    check: Callable[[], None] = lambda: None
    begin: Callable[[], None] = lambda: None
    block: tuple[int, int] = (0, 0)


class Stream:
    """Work in its order."""

    def __init__(self, handle: int):
        self.handle = handle
        self.pending: list[Work] = []
        self.capture: list[Work] | None = None
        self.capture_broken = False

    def submit(self, work: Work) -> None:
        """Hand in work, or note it while capturing."""
        if self.capture is not None:
            self.capture.append(work)
        else:
            work.begin()
            self.pending.append(work)

    def finish(self, last: Work | None = None) -> None:
        """Do all that is pending, or as much as reaches to `last`."""
        if last is not None and last not in self.pending:
            return
        while self.pending:
            work = self.pending.pop(0)
            work.run()
            if work is last:
                return


class Event:
    """A mark in a stream."""

    def __init__(self) -> None:
        self.stream: Stream | None = None
        self.mark: Work | None = None
        self.at: float | None = None

    def record(self, stream: Stream) -> None:
        """Put it behind what is pending."""
        self.at = None
        self.mark, self.stream = Work(self._reached), stream
        stream.submit(self.mark)

    def _reached(self) -> None:
        self.at = time.perf_counter()

    def wait(self) -> None:
        """Until it is reached."""
        if self.stream is not None:
            self.stream.finish(self.mark)


class Graph:
    """Captured work."""

    def __init__(self, works: list[Work]):
        self.works = works
        self.destroyed = False

    def launch(self, stream: Stream) -> None:
        """Hand it in again."""
        if self.destroyed:
            raise Violation("a destroyed graph was launched")
        for work in self.works:
            work.check()
            stream.submit(work)
