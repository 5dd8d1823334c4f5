"""The generation loop, and one answer while it is generated: iterate over a `Reply` for text, then read what it became.

A token's way through the files: `chat` reads the question, `dialogue` keeps what was said, `session` makes a prompt of
it, the loop below samples tokens, `decoder` feeds them to the kv cache, and a backend's `runner` runs the layers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence

import numpy as np

from mobilevlm.engines.machine import peak_rss_bytes
from mobilevlm.errors import UserError
from mobilevlm.text.prompt import StopRule
from mobilevlm.text.tokenizer import Tokenizer

from .answer_options import AnswerOptions, Constraint
from .decoder import Decoder
from .logprobs import TokenLogprob, token_logprob
from .prompt import Prompt
from .sampling import Sampler
from .statistics import Statistics
from .text_stream import TextStream


class Clock:
    """Times of one answer.

    Args:
        start: `time.perf_counter` when the question was asked.

    Attributes:
        start: as above, in seconds.
        first: when the first token was there, in seconds; `start` until then.
        last: when the latest token was there, in seconds; `start` until then.
        prefill_ms: milliseconds that the decoder took for the prompt.
        reused: tokens of the prompt that were not run again.
    """

    def __init__(self, start: float):
        self.start = self.first = self.last = start
        self.prefill_ms, self.reused = 0.0, 0


def generate(
    decoder: Decoder, prompt: Prompt, options: AnswerOptions, clock: Clock, logprobs: list[TokenLogprob]
) -> Iterator[int]:
    """Yields token ids, one after the other; the caller decides when the answer is complete, and leaves.

    Args:
        decoder: runs prompt and tokens.
        prompt: what is answered.
        options: how tokens are chosen, and how many at most; fewer when the kv cache is full.
        clock: gets the times of prefill and tokens.
        logprobs: gets each token's log-probability, before it is yielded, where the options ask for them.

    Raises:
        UserError: another answer was begun in the meantime.
    """
    sampler, constraint, limit = Sampler(options.sampling), options.constraint, most_tokens(decoder, prompt, options)
    previous = list(prompt.input_ids)
    if constraint is not None:
        constraint.begin(limit)
    token: int | None = None
    for _ in range(limit):
        with decoder.lock:  # until the token is sampled: the logits may be a buffer that the next call writes into
            if token is None:
                begin = time.perf_counter()
                logits, clock.reused = decoder.run_prompt(prompt)
                clock.prefill_ms = (time.perf_counter() - begin) * 1e3 - prompt.image_encode_ms
            else:
                previous.append(token)
                logits = decoder.run_token(prompt, token)
            if constraint is None:
                token = sampler.sample(logits, previous)
            else:
                token, logits = _sample_within(constraint, np.asarray(logits), sampler, previous)
            if options.top_logprobs is not None:
                logprobs.append(token_logprob(np.asarray(logits), token, options.top_logprobs))
        clock.last = time.perf_counter()
        if clock.first == clock.start:
            clock.first = clock.last
        yield token


def _sample_within(
    constraint: Constraint, logits: np.ndarray, sampler: Sampler, previous: Sequence[int]
) -> tuple[int, np.ndarray]:
    """Returns the next token that a constraint takes, and the logits it was chosen by.

    Args:
        constraint: begun for this answer.
        logits: (V,) float32.
        sampler: chooses.
        previous: prompt and generated ids.

    Raises:
        UserError: it takes none.
    """
    while True:
        restricted = constraint.restrict(logits)
        if restricted.max() == -np.inf:
            raise UserError("the constraint of the answer's tokens rules all of them out: nothing can be generated")
        token = sampler.sample(restricted, previous)
        if constraint.accept(token):
            return token, restricted


def most_tokens(decoder: Decoder, prompt: Prompt, options: AnswerOptions) -> int:
    """Returns how many tokens an answer can have: what is allowed, or what fits into the kv cache.

    Args:
        decoder: whose kv cache it is.
        prompt: what is answered.
        options: of the answer.
    """
    return min(options.max_new_tokens, room(decoder, prompt))


def room(decoder: Decoder, prompt: Prompt) -> int:
    """Number of tokens that can follow a prompt: the last one is chosen without being put into the kv cache.

    Args:
        decoder: whose kv cache it is.
        prompt: what the cache holds.
    """
    return decoder.max_context - len(prompt.keys) + 1


class Reply:
    """The answer to one prompt. Iterating generates it; it can be iterated over once, and left early.

    Args:
        decoder: runs prompt and tokens.
        tokenizer: turns tokens into text.
        prompt: what is answered.
        rule: says when the answer is complete.
        options: how its tokens are chosen.
        start: `time.perf_counter` when the question was asked, for TTFT.
        on_end: called with the answer's text when it has ended.

    Attributes:
        text: the answer so far; exactly the joined pieces.
        tokens: ids generated so far, a final EOS included.
        logprobs: of those tokens, where the options ask for them.
        finish: why it ended: `stop`, `length` (max_new_tokens), `context` (kv cache full), or `interrupted`.
        statistics: figures, once it has ended.
    """

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: Tokenizer,
        prompt: Prompt,
        rule: StopRule,
        options: AnswerOptions,
        start: float,
        on_end: Callable[[str], object],
    ):
        self.text, self.finish = "", "interrupted"
        self.tokens: list[int] = []
        self.logprobs: list[TokenLogprob] = []
        self.statistics: Statistics | None = None
        self._decoder, self._tokenizer, self._prompt, self._rule = decoder, tokenizer, prompt, rule
        self._options, self._on_end = options, on_end
        self._clock = Clock(start)
        self._begun = False

    def __iter__(self) -> Generator[str, None, None]:
        """Yields pieces of text as soon as they are certain.

        Raises:
            UserError: it was iterated over before, or another answer was begun in its session.
        """
        with self._decoder.lock:
            if self._begun:
                raise UserError("this reply was generated already: its text is in .text")
            self._begun = True
        options, constraint = self._options, self._options.constraint
        # A constraint says itself when an answer is whole: a template's stop string may be part of it.
        keywords = [self._rule.keyword] if constraint is None else []
        stream = TextStream(self._tokenizer.decode, [*keywords, *options.stop])
        try:
            for token in generate(self._decoder, self._prompt, options, self._clock, self.logprobs):
                self.tokens.append(token)
                piece = stream.push(token)
                # The rule looks at as many tokens as the keyword has; the stream also knows one spelt with more.
                ended = self._rule.stops(self.tokens) if constraint is None else constraint.is_complete
                ended = ended or stream.stopped
                if ended:
                    piece += stream.flush()
                if piece:
                    self.text += piece
                    yield piece
                if ended:
                    self.finish = "stop"
                    break
            else:
                fits = options.max_new_tokens <= room(self._decoder, self._prompt)
                self.finish = "length" if fits else "context"
            rest = stream.flush()
            if rest:
                self.text += rest
                yield rest
        finally:
            self.statistics = self._figures()
            self._on_end(self.text)

    def _figures(self) -> Statistics:
        clock, decoded = self._clock, len(self.tokens) - 1
        seconds = clock.last - clock.first
        return Statistics(
            image_encode_ms=self._prompt.image_encode_ms,
            prefill_ms=clock.prefill_ms,
            ttft_ms=(clock.first - clock.start) * 1e3,
            prompt_tokens=len(self._prompt.keys),
            reused_tokens=clock.reused,
            new_tokens=len(self.tokens),
            decode_tokens_per_s=decoded / seconds if decoded > 0 and seconds > 0 else 0.0,
            peak_rss_mib=peak_rss_bytes() / 2**20,
        )
