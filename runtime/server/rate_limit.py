"""Rate limit of requests, for each client by itself: a bucket that refills evenly."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from .errors import ApiError

MOST_CLIENTS = 10_000  # those that have asked last; the others have full buckets again, or are too many


class RateLimit:
    """Counts what clients ask.

    Args:
        per_minute: requests that a client may make in a minute, all of them at once if it likes; 0 for no limit.
        clock: seconds that never go back.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic):
        self._per_minute, self._clock = per_minute, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> None:
        """Counts a request.

        Raises:
            ApiError: the client has asked too often; with the seconds until it may ask again.
        """
        if not self._per_minute:
            return
        now, per_second = self._clock(), self._per_minute / 60
        left, then = self._left.pop(client, (float(self._per_minute), now))
        left = min(self._per_minute, left + (now - then) * per_second)
        self._left[client] = (left - 1 if left >= 1 else left), now
        if len(self._left) > MOST_CLIENTS:
            self._left.popitem(last=False)
        if left < 1:
            wait = math.ceil((1 - left) / per_second)
            raise ApiError(
                429, f"more than {self._per_minute} requests a minute", code="rate_limit_exceeded", retry_after=wait
            )
