"""Events of an answer while its client waits: pings that keep the connection alive, and an end when it hangs up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TypeVar

from starlette.requests import Request

T = TypeVar("T")
PING = b": ping\n\n"
PING_SECONDS = 5.0  # clients' time-outs between two bytes are tens of seconds


class HungUp(Exception):
    """The client has closed its connection."""


async def with_pings(events: AsyncGenerator[T, None], seconds: float = PING_SECONDS) -> AsyncGenerator[T | None, None]:
    """Yields events, and None after every so many seconds without one.

    Args:
        events: of one answer; closed with this.
        seconds: between two pings.
    """
    pending: asyncio.Task[T] | None = None
    try:
        while True:
            pending = pending or asyncio.ensure_future(_next(events))
            done, _ = await asyncio.wait([pending], timeout=seconds)
            if not done:
                yield None
                continue
            task, pending = pending, None
            try:
                event = task.result()
            except StopAsyncIteration:
                return
            yield event
    finally:
        if pending is not None:
            pending.cancel()
            await asyncio.wait([pending])
        await events.aclose()


async def while_connected(events: AsyncGenerator[T, None], http: Request) -> AsyncGenerator[T, None]:
    """Yields events until the client hangs up. Left early, it leaves the events open for whoever goes on with them.

    Args:
        events: of one answer.
        http: the connection, whose body has been read.

    Raises:
        HungUp: the client is gone; the events are closed.
    """
    gone = asyncio.ensure_future(http.receive())  # nothing but the end of the connection can come
    try:
        while True:
            pending = asyncio.ensure_future(_next(events))
            try:
                await asyncio.wait([pending, gone], return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                pending.cancel()
                raise
            if not pending.done():
                pending.cancel()
                await asyncio.wait([pending])
                await events.aclose()
                raise HungUp
            try:
                event = pending.result()
            except StopAsyncIteration:
                return
            yield event
    finally:
        gone.cancel()


async def first_of(events: AsyncGenerator[T, None], http: Request) -> T | None:
    """Waits for the first of an answer's events; the others can be read on.

    Args:
        events: of one answer.
        http: the connection, whose body has been read.

    Raises:
        HungUp: the client is gone; the events are closed.
    """
    waiting = while_connected(events, http)
    try:
        return await anext(waiting, None)
    finally:
        await waiting.aclose()


async def _next(events: AsyncGenerator[T, None]) -> T:
    return await anext(events)
