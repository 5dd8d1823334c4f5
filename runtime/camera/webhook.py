"""Events sent to a web address by a thread of its own, so that a slow or absent server never holds up the watcher."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections import deque
from collections.abc import Callable
from email.message import Message
from http.client import HTTPException
from typing import IO
from urllib.error import HTTPError
from urllib.parse import urlsplit

from mobilevlm.errors import UserError

from .event import Event

MOST_WAITING = 256  # events; the oldest are dropped
_PASSING = (408, 425, 429)  # besides 5xx: statuses after which the same event may be taken


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Makes an error of a redirect: following one would send the event's address without the event."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


class Webhook:
    """A sink that POSTs events as JSON, oldest first. Use it in a `with` statement: leaving it sends what is waiting.

    Args:
        url: http or https.
        note: called with a sentence for the user when an event is lost.
        timeout_s: seconds that a server may take for one try, and that leaving waits.
        tries: how often an event is sent before it is lost.
        first_pause_s: seconds before the second try; doubled with every further one.

    Raises:
        UserError: it is no web address.
    """

    def __init__(
        self,
        url: str,
        note: Callable[[str], object],
        *,
        timeout_s: float = 5.0,
        tries: int = 4,
        first_pause_s: float = 0.5,
    ):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(f"--webhook {url} is not a web address: it begins with http:// or https:// and a host")
        self._url, self._note, self._timeout_s = url, note, timeout_s
        self._tries, self._first_pause_s = tries, first_pause_s
        self._opener = urllib.request.build_opener(_NoRedirects)
        self._waiting: deque[Event] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._send_all, name="webhook", daemon=True)

    def __enter__(self) -> Webhook:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(self._timeout_s)
        if self._waiting:
            self._note(f"events that were not sent to {self._url}: {len(self._waiting)}")

    def __call__(self, event: Event) -> None:
        """Lets an event wait for its turn; returns at once."""
        with self._changed:
            if len(self._waiting) == MOST_WAITING:
                self._waiting.popleft()
                self._note(f"{self._url} is too slow: the oldest of {MOST_WAITING} waiting events is dropped")
            self._waiting.append(event)
            self._changed.notify_all()

    def _send_all(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if not self._waiting:
                    return
                event = self._waiting[0]
            self._send(event)
            with self._changed:
                if self._waiting and self._waiting[0] is event:  # not dropped meanwhile
                    self._waiting.popleft()

    def _send(self, event: Event) -> None:
        pause = self._first_pause_s
        for attempt in range(1, self._tries + 1):
            problem, may_pass = self._try(event)
            if problem is None:
                return
            if not may_pass or attempt == self._tries:
                self._note(f"an event was not sent to {self._url}: {problem}")
                return
            with self._changed:
                self._changed.wait_for(lambda: self._closing, pause)
            pause *= 2

    def _try(self, event: Event) -> tuple[str | None, bool]:
        """Sends once; returns the problem, None if there was none, and whether it may pass."""
        headers = {"Content-Type": "application/json", "User-Agent": "mobilevlm-watch"}
        request = urllib.request.Request(self._url, event.to_json().encode(), headers, method="POST")
        begin = time.monotonic()
        try:
            with self._opener.open(request, timeout=self._timeout_s) as reply:
                reply.read(1)
            return None, False
        except HTTPError as error:
            error.close()
            return f"status {error.code}", error.code >= 500 or error.code in _PASSING
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            return f"{reason or type(error).__name__} after {time.monotonic() - begin:.1f} s", True
