"""A watcher: frames in, events out. It asks about a frame when something has changed, and tells when the answer has."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from PIL import Image

from mobilevlm.errors import UserError

from .answer import Answer
from .change_gate import ChangeGate
from .event import Event
from .frames import Frame
from .hysteresis import Hysteresis

# Frames asked about after a change for each answer that `--hold` wants, while the answers do not agree.
_FOLLOW_UPS = 3


@dataclass
class Counts:
    """What a watcher has done.

    Attributes:
        seen: frames that it looked at.
        asked: frames that it asked about.
        events: changes of the answer.
        gate_s: CPU seconds of comparing frames.
        answer_s: CPU seconds of all threads while answers were made.
    """

    seen: int = 0
    asked: int = 0
    events: int = 0
    gate_s: float = 0.0
    answer_s: float = 0.0


class Watcher:
    """Asks one question again and again. Not for several threads at once.

    Args:
        ask: answers the question about an image.
        question: the question, for the events.
        gate: says whether a frame has changed; None asks about every frame.
        hysteresis: says which answer counts.
        sinks: called with every event.
        at_least_every_s: seconds after which a frame is asked about though nothing has changed; None for never.

    Attributes:
        counts: what was done so far.

    Raises:
        UserError: `at_least_every_s` is not above 0.
    """

    def __init__(
        self,
        ask: Callable[[Image.Image], Answer],
        question: str,
        *,
        gate: ChangeGate | None,
        hysteresis: Hysteresis,
        sinks: Iterable[Callable[[Event], object]] = (),
        at_least_every_s: float | None = None,
    ):
        if at_least_every_s is not None and at_least_every_s <= 0:
            raise UserError(f"--at-least-every is {at_least_every_s:g}; it has to be more than 0 seconds")
        self.counts = Counts()
        self._ask, self._question, self._gate, self._hysteresis = ask, question, gate, hysteresis
        self._sinks, self._at_least_every_s = tuple(sinks), at_least_every_s
        self._asked_at = 0.0
        self._follow_ups = 0

    def see(self, frame: Frame) -> Event | None:
        """Looks at the next frame; returns the event if its answer is a change, after the sinks have it."""
        self.counts.seen += 1
        if not self._is_due(frame):
            return None
        begin, previous = time.perf_counter(), self._hysteresis.current
        answer = self._answer(frame)
        if not self._hysteresis.push(answer):
            return None
        self.counts.events += 1
        event = Event(
            question=self._question,
            answer=self._hysteresis.current or "",
            previous=previous,
            probabilities=answer.probabilities,
            frame=frame.number,
            frame_time_s=round(frame.time, 3),
            answer_ms=round((time.perf_counter() - begin) * 1e3, 1),
        )
        for sink in self._sinks:
            sink(event)
        return event

    def _is_due(self, frame: Frame) -> bool:
        if self._gate is None:
            return True
        begin = time.process_time()
        has_changed = self._gate.has_changed(frame)
        self.counts.gate_s += time.process_time() - begin
        if has_changed:
            self._follow_ups = _FOLLOW_UPS * self._hysteresis.hold
        elif self._hysteresis.is_undecided and self._follow_ups > 0:
            self._follow_ups -= 1
        elif self._at_least_every_s is None or 0 <= frame.time - self._asked_at < self._at_least_every_s:
            return False  # a time before the last one: a recording that begins anew
        return True

    def _answer(self, frame: Frame) -> Answer:
        if self._gate is not None:
            self._gate.ask_about()
        self.counts.asked += 1
        self._asked_at = frame.time
        begin = time.process_time()
        answer = self._ask(frame.image())
        self.counts.answer_s += time.process_time() - begin
        return answer
