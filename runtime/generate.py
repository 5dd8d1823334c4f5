"""One answer while it is generated: iterate over it for text, then read what it became."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mobilevlm.engines.machine import peak_rss_bytes
from mobilevlm.errors import UserError
from mobilevlm.text.prompt import StopRule

from .embeddings import Rows
from .sampling import Sampler
from .statistics import Statistics
from .text_stream import TextStream

if TYPE_CHECKING:
    from .session import Session


@dataclass(frozen=True)
class Prompt:
    """A prompt as the decoder takes it.

    Attributes:
        input_ids: token ids, -200 where an image is.
        inputs_embeds: (S, D), images in their places.
        keys: one for each row, equal rows have equal keys (see `kv_cache.CachedPrefix`).
        image_encode_ms: time the vision stage took.
    """

    input_ids: list[int]
    inputs_embeds: Rows
    keys: Sequence[Hashable]
    image_encode_ms: float


class Reply:
    """The answer to one prompt. Iterating generates it; it can be iterated over once, and left early.

    Attributes:
        text: the answer so far; exactly the joined pieces.
        tokens: ids generated so far, a final EOS included.
        finish: why it ended: `stop`, `length` (max_new_tokens), `context` (kv cache full), or `interrupted`.
        statistics: figures, once it has ended.
    """

    def __init__(
        self,
        session: Session,
        prompt: Prompt,
        rule: StopRule,
        sampler: Sampler,
        max_new_tokens: int,
        start: float,
        on_end: Callable[[str], object],
    ):
        self.text, self.tokens = "", []
        self.finish = "interrupted"
        self.statistics: Statistics | None = None
        self._session, self._prompt, self._rule, self._sampler = session, prompt, rule, sampler
        self._max_new_tokens, self._start, self._on_end = max_new_tokens, start, on_end
        self._begun = False

    def __iter__(self) -> Iterator[str]:
        """Yield pieces of text as soon as they are certain.

        Raises:
            UserError: it was iterated over before, or another answer was begun in its session.
        """
        if self._begun:
            raise UserError("this reply was generated already: its text is in .text")
        self._begun = True
        stream = TextStream(self._session.tokenizer.decode, [self._rule.keyword])
        clock = _Clock(self._start)
        try:
            for token in self._generate(clock):
                self.tokens.append(token)
                clock.token()
                piece = stream.push(token)
                # The rule looks at as many tokens as the keyword has; the stream also knows one spelt with more.
                ended = self._rule.stops(self.tokens) or stream.stopped
                if ended:
                    piece += stream.flush()
                if piece:
                    self.text += piece
                    yield piece
                if ended:
                    self.finish = "stop"
                    break
            else:
                room = self._session.max_context - len(self._prompt.keys) + 1
                self.finish = "length" if self._max_new_tokens <= room else "context"
            rest = stream.flush()
            if rest:
                self.text += rest
                yield rest
        finally:
            self.statistics = self._statistics(clock)
            self._on_end(self.text)

    def _generate(self, clock: _Clock) -> Iterator[int]:
        """Yield tokens until the limit; the caller decides when an answer is complete."""
        session, prompt = self._session, self._prompt
        limit = min(self._max_new_tokens, session.max_context - len(prompt.keys) + 1)
        clock.prefill_begins()
        logits, clock.reused = session.run_prompt(self, prompt.inputs_embeds, prompt.keys)
        clock.prefill_ends()
        previous = list(prompt.input_ids)
        for count in range(1, limit + 1):
            token = self._sampler.sample(logits, previous)
            yield token
            if count < limit:
                previous.append(token)
                logits = session.run_token(self, token)

    def _statistics(self, clock: _Clock) -> Statistics:
        decoded = len(self.tokens) - 1
        seconds = clock.last - clock.first
        return Statistics(
            image_encode_ms=self._prompt.image_encode_ms,
            prefill_ms=clock.prefill_ms,
            ttft_ms=(clock.first - self._start) * 1e3,
            prompt_tokens=len(self._prompt.keys),
            reused_tokens=clock.reused,
            new_tokens=len(self.tokens),
            decode_tokens_per_s=decoded / seconds if decoded > 0 and seconds > 0 else 0.0,
            peak_rss_mib=peak_rss_bytes() / 2**20,
        )


class _Clock:
    """Times of one answer, in seconds of `time.perf_counter`."""

    def __init__(self, start: float):
        self.first = self.last = self._prefill = start
        self.prefill_ms = 0.0
        self.reused = 0
        self._seen = False

    def prefill_begins(self) -> None:
        self._prefill = time.perf_counter()

    def prefill_ends(self) -> None:
        self.prefill_ms = (time.perf_counter() - self._prefill) * 1e3

    def token(self) -> None:
        self.last = time.perf_counter()
        if not self._seen:
            self.first, self._seen = self.last, True
