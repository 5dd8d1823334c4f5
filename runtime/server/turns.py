"""Turns of clients at an engine: one answer at a time, clients in rotation, and an end to the queue."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class QueueFull(Exception):
    """The queue has no place left."""


class Turns:
    """Queue of one engine, or of engines that share a device. Whoever asks much does not delay the others.

    Args:
        places: most requests that wait.

    Attributes:
        waiting: how many do.
    """

    def __init__(self, places: int):
        self._places, self.waiting, self._taken = places, 0, False
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Waits for the turn of a client's request, and holds it.

        Args:
            client: whose request it is: an API key or an address.

        Raises:
            QueueFull: too many wait already.
        """
        if self._taken:
            await self._wait(client)
        self._taken = True
        try:
            yield
        finally:
            self._next()

    def refuse_all(self, error: Exception) -> None:
        """Gives an error to all requests that wait."""
        for queue in self._queues.values():
            for future in queue:
                if not future.done():
                    future.set_exception(error)

    async def _wait(self, client: str) -> None:
        if self.waiting >= self._places:
            raise QueueFull
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue = self._queues.setdefault(client, deque())
        queue.append(future)
        self.waiting += 1
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._next()  # the turn had come just now: hand it on
            raise
        finally:
            self.waiting -= 1
            if future in queue:
                queue.remove(future)
            if not queue and self._queues.get(client) is queue:
                del self._queues[client]

    def _next(self) -> None:
        """Gives the turn to the next client's oldest request."""
        while self._queues:
            client, queue = self._queues.popitem(last=False)
            future = queue.popleft()
            if queue:
                self._queues[client] = queue  # behind all others
            if not future.done():
                future.set_result(None)
                return  # still taken, by the one that was woken
        self._taken = False
