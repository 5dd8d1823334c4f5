"""From a request to events: which bundle, whose turn, the engine's answer, and what is counted of it."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from mobilevlm.errors import UserError

from .answer_request import AnswerRequest, Event, Failed, Finished
from .engine import Engine, EngineCrashed, EngineDamaged
from .errors import ApiError
from .metrics import Metrics
from .turns import QueueFull, Turns

RETRY_SECONDS = 5


class Service:
    """Bundles behind a queue: the engines share the device, so one of them answers at a time.

    Args:
        engines: served bundles, the first of which answers requests that name none.
        places: most requests that wait.
        strict: whether an unknown model's name is an error; otherwise the first bundle answers.

    Attributes:
        engines: by name.
        turns: the queue.
        metrics: of all answers.
        is_closing: whether the server shuts down, and takes no more requests.
    """

    def __init__(self, engines: Sequence[Engine], places: int, strict: bool = False):
        self.engines = {engine.name: engine for engine in engines}
        self.turns, self._strict = Turns(places), strict
        self.metrics = Metrics(self.turns, self.engines)
        self.is_closing = False

    async def start(self) -> None:
        """Opens all bundles.

        Raises:
            UserError: one cannot be opened.
        """
        for engine in self.engines.values():
            await engine.start()

    def stop(self) -> None:
        """Ends all engines; requests that wait get an error."""
        self.is_closing = True
        self.turns.refuse_all(ApiError(503, "the server shuts down", retry_after=RETRY_SECONDS))
        for engine in self.engines.values():
            engine.stop()

    def engine_of(self, model: str | None) -> Engine:
        """Returns the bundle that a request names.

        Raises:
            ApiError: there is none of this name, and the server is strict, or the name is an address.
        """
        if model is not None and model in self.engines:
            return self.engines[model]
        if self._strict and model is None:
            raise ApiError(400, "model is missing", "model")
        if self._strict or "/" in (model or ""):  # a URL or a path is no name that a person chose
            known = ", ".join(self.engines)
            raise ApiError(404, f"there is no such model; served are {known}", "model", "model_not_found")
        return next(iter(self.engines.values()))

    async def answer(self, engine: Engine, request: AnswerRequest, client: str) -> AsyncGenerator[Event, None]:
        """Yields what becomes of a request, once its turn has come.

        Args:
            engine: answers it.
            request: with its images.
            client: whose it is.

        Raises:
            ApiError: the queue is full, the request cannot be answered, or the engine crashed.
        """
        if self.is_closing:
            raise ApiError(503, "the server shuts down", retry_after=RETRY_SECONDS)
        begin = time.monotonic()
        try:
            async with self.turns.turn(client):
                self.metrics.waited(engine.name, time.monotonic() - begin)
                try:
                    async with aclosing(engine.answer(request)) as events:  # closed now, before the turn goes on
                        async for event in events:
                            yield self._counted(engine, event)
                except EngineDamaged as error:
                    raise ApiError(503, str(error), code="bundle_damaged") from None
                except EngineCrashed as error:
                    crashed = ApiError(503, str(error), code="engine_crashed", retry_after=RETRY_SECONDS)
                    self.turns.refuse_all(crashed)
                    raise crashed from None
        except QueueFull:
            raise ApiError(
                429, "the queue is full: try again later", code="queue_full", retry_after=RETRY_SECONDS
            ) from None
        except UserError as error:  # it could not be started again
            code = "engine_unavailable" if engine.damage is None else "bundle_damaged"
            raise ApiError(503, str(error), code=code, retry_after=RETRY_SECONDS) from None

    def _counted(self, engine: Engine, event: Event) -> Event:
        if isinstance(event, Failed):
            raise _refused(event)
        if isinstance(event, Finished):
            self.metrics.answered(engine.name, event.statistics)
        return event


def _refused(event: Failed) -> ApiError:
    if event.is_fault_of_request:
        return ApiError(400, event.message, event.param)
    return ApiError(500, f"the engine failed: {event.message}")
