"""An event: the answer to a watcher's question has changed; and its form as a line of JSON, written to a stream."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import TextIO


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class Event:
    """A change of the answer.

    Attributes:
        question: what is asked.
        answer: the answer that holds from now on.
        previous: the one before; None for the first.
        probabilities: of each choice, where the session gives them.
        frame: number of the frame in its source.
        frame_time_s: its time in seconds, see `frames.Frame`.
        answer_ms: milliseconds from taking the frame to the answer.
        time: when the event was made, ISO 8601 in UTC.
    """

    question: str
    answer: str
    previous: str | None
    probabilities: Mapping[str, float] | None
    frame: int
    frame_time_s: float
    answer_ms: float
    time: str = field(default_factory=_now)

    def to_json(self) -> str:
        """Returns the event as one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)


class JsonLines:
    """A sink that writes events as lines of JSON, each at once.

    Args:
        stream: to write to.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream

    def __call__(self, event: Event) -> None:
        """Writes an event."""
        print(event.to_json(), file=self._stream, flush=True)
