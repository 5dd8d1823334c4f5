"""An engine process as the server sees it: started, asked, cancelled, and started again after a crash."""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TypeAlias

from mobilevlm.engines.trust import Trust
from mobilevlm.errors import UserError
from mobilevlm.image import MAX_PIXELS

from .answer_request import AnswerRequest, Cancel, Chosen, Damaged, Event, Failed, Finished, Opened
from .engine_process import serve_engine

Message: TypeAlias = Opened | Event | Damaged | None  # None: the process has ended
ENDS = (Finished, Failed, Chosen)
SECONDS_TO_LEAVE = 5.0  # for a process that was told to end
# Without a word of an answer: longer than a small board takes for the longest prompt of a 7B model.
HUNG_SECONDS = 600.0


class EngineCrashed(Exception):
    """The engine's process ended during an answer, or before the waiting ones."""


class EngineDamaged(Exception):
    """A file of the bundle has rotted, and the engine's process has ended; the message names file and remedy."""


@dataclass
class _Running:
    """A started process with its end of the pipe, and what comes out of it."""

    process: BaseProcess
    connection: Connection
    events: asyncio.Queue[tuple[int, Message]] = field(default_factory=asyncio.Queue)
    sending: threading.Lock = field(default_factory=threading.Lock)

    def send(self, message: tuple[int, AnswerRequest] | Cancel) -> None:
        """Sends a message, from any thread.

        Raises:
            OSError: the process has ended.
        """
        with self.sending:
            self.connection.send(message)


class _Alarm:
    """Kills a process that says nothing any more, for instance behind a device's driver: it is a crash then.

    Args:
        process: of the engine.
    """

    def __init__(self, process: BaseProcess):
        self._process = process
        self._timer: asyncio.TimerHandle | None = None

    def set(self) -> None:
        """Begins to wait anew."""
        self.clear()
        self._timer = asyncio.get_running_loop().call_later(HUNG_SECONDS, self._process.kill)

    def clear(self) -> None:
        """Waits no longer."""
        if self._timer is not None:
            self._timer.cancel()


class Engine:
    """One bundle in a process of its own. Answers one request at a time: see `turns.Turns`.

    Args:
        name: under which it is served.
        directory: of the bundle.
        on_cpu: see `Session`.
        check: see `Session`.
        prefix_cache_bytes: see `Session`.
        trust: see `Session`.
        max_pixels: most pixels of an image.
        scrub: see `Session`.

    Attributes:
        opened: what the process said about the bundle; None before `start`.
        damage: why the bundle cannot be believed since it was opened; None until a file of it has rotted, and again
            after a start that found it whole.
        restarts: how often the process was started again.
    """

    def __init__(
        self,
        name: str,
        directory: str,
        on_cpu: bool = False,
        check: bool = True,
        prefix_cache_bytes: int = 0,
        trust: Trust = (),
        max_pixels: int = MAX_PIXELS,
        scrub: bool = True,
    ):
        self.name, self.directory = name, directory
        self._options = (on_cpu, check, prefix_cache_bytes, trust, max_pixels, scrub)
        self.opened: Opened | None = None
        self.damage: str | None = None
        self.restarts = -1
        self._running: _Running | None = None
        self._number = 0

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._running is not None and self._running.process.is_alive()

    @property
    def pid(self) -> int | None:
        """Process id; None while there is no process."""
        return self._running.process.pid if self._running else None

    async def start(self) -> None:
        """Starts the process and waits until the bundle is open.

        Raises:
            UserError: the bundle cannot be opened.
        """
        self.stop()
        context = multiprocessing.get_context("spawn")  # a fork would share locks of the server's threads
        ours, theirs = context.Pipe()
        options = (theirs, self.directory, *self._options)
        process = context.Process(target=serve_engine, args=options, name=f"engine {self.name}", daemon=True)
        process.start()
        theirs.close()
        running = _Running(process, ours)
        self._running = running
        words = (running, asyncio.get_running_loop(), self._note)
        threading.Thread(target=_read, args=words, daemon=True).start()
        _, first = await running.events.get()
        if not isinstance(first, Opened):
            self.stop()
            raise UserError(first.message if isinstance(first, Failed) else _ended(self.directory, process))
        self.opened, self.damage, self.restarts = first, None, self.restarts + 1

    def stop(self) -> None:
        """Ends the process; an answer in progress is lost."""
        running, self._running = self._running, None
        if running is None:
            return
        running.connection.close()
        running.process.join(0.2)  # notices the closed pipe between two tokens
        if running.process.is_alive():
            running.process.terminate()
            running.process.join(SECONDS_TO_LEAVE)
        if running.process.is_alive():
            running.process.kill()
            running.process.join()

    async def answer(self, request: AnswerRequest) -> AsyncGenerator[Event, None]:
        """Yields what becomes of a request: pieces, then its end. Leaving early cancels it at the next token.

        Raises:
            EngineCrashed: the process ended; the next request starts a new one.
            EngineDamaged: a file of the bundle has rotted; the next request starts a process that hashes it.
            UserError: it could not be started again.
        """
        if not self.is_alive or self.damage is not None:  # a damaged one is about to end
            await self.start()
        running = self._running
        assert running is not None
        self._number += 1
        number, ended = self._number, False
        hung = _Alarm(running.process)
        hung.set()
        try:
            with suppress(OSError):  # it has ended, and the last that it said is still to be read
                await asyncio.to_thread(running.send, (number, request))  # megabytes, while a cancelled answer ends
            while not ended:
                of, event = await running.events.get()
                hung.set()
                if isinstance(event, Damaged):
                    self.stop()
                    raise EngineDamaged(event.message)
                if event is None or isinstance(event, Opened):
                    raise EngineCrashed(self._crashed())
                if of == number:  # not of a request that was left
                    ended = isinstance(event, ENDS)
                    yield event
        finally:
            hung.clear()
            if not ended:
                with suppress(OSError):
                    running.send(Cancel())

    def _note(self, damaged: Damaged) -> None:
        """Notes what a process said that ends, also where nobody asks it."""
        self.damage = damaged.message
        print(f"{self.name}: {damaged.message}", file=sys.stderr, flush=True)

    def _crashed(self) -> str:
        self.stop()
        return f"the engine of {self.name} crashed during an answer; ask again, and it is started again"


def _read(running: _Running, loop: asyncio.AbstractEventLoop, note: Callable[[Damaged], None]) -> None:
    """Hands on what comes out of a process, in a thread: pipes have no asyncio reader on every system.

    Args:
        running: the process.
        loop: of the server.
        note: called in the loop when the bundle has rotted.
    """

    def put(number: int, event: Message) -> None:
        with suppress(RuntimeError):  # the loop is closed: the server has ended
            if isinstance(event, Damaged):
                loop.call_soon_threadsafe(note, event)
            loop.call_soon_threadsafe(running.events.put_nowait, (number, event))

    try:
        while True:
            put(*running.connection.recv())
    except (EOFError, OSError):
        put(0, None)


def _ended(directory: str, process: BaseProcess) -> str:
    return f"{directory} could not be opened: its process ended with status {process.exitcode} before it was open"
