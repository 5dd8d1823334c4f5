"""One bundle being measured, on synthetic inputs: timing does not depend on what is in a picture, only on its size."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.embed_tokens import EmbedTokens
from mobilevlm.engines.machine import peak_rss_bytes
from mobilevlm.engines.stages import EMBED_TOKENS_FILE

from ..embeddings import EmbeddingBlock, Embeddings
from ..runner import Runner, open_runner
from ..sampling import Sampler, Sampling
from .plan import Plan
from .quiet import wait_until_quiet, watched

SEED = 0


class Engine:
    """A bundle, opened and closed as often as asked. Lives in a process of its own, so that its memory is its own."""

    def __init__(self, directory: Path, plan: Plan, longest_wait_s: float = 0.0):
        """Nothing is opened yet.

        Args:
            directory: the bundle.
            plan: what to measure.
            longest_wait_s: how long to wait for a quiet machine before each measurement.
        """
        self.directory, self.plan, self._wait_s = directory, plan, longest_wait_s
        self._runner: Runner | None = None
        self._table: EmbedTokens | None = None
        self._sampler, self._token = Sampler(Sampling()), 0

    def load(self, profile_to: Path | None = None) -> float:
        """Open the bundle anew: milliseconds for checking its files and making its sessions, imports not counted."""
        self.close()
        wait_until_quiet(self._wait_s)
        begin = time.perf_counter()
        bundle = Bundle.open(self.directory)
        self._runner = open_runner(bundle, profile_to)
        milliseconds = (time.perf_counter() - begin) * 1e3
        if self._table is None:
            self._make_inputs(bundle)
        return milliseconds

    def start(self) -> dict[str, float]:
        """Open the bundle anew and ask a first question: `load_ms`, and `first_token_ms` from the start on.

        What is still being opened when a bundle takes its first question is in the latter.
        """
        load_ms = self.load()
        return {"load_ms": load_ms, "first_token_ms": load_ms + self.question()["ttft_ms"]}

    def close(self) -> None:
        """Give the engine's memory back."""
        if self._runner is not None:
            self._runner.close()
        self._runner = None

    def _make_inputs(self, bundle: Bundle) -> None:
        config, draws = bundle.config, np.random.default_rng(SEED)
        self._table = EmbedTokens(bundle.path(EMBED_TOKENS_FILE))
        self._pixel_values = None
        if bundle.has_vision:
            size = config.vision.image_size
            self._pixel_values = draws.standard_normal((1, 3, size, size), np.float32)
        self._ids = draws.integers(0, config.vocab_size, self.plan.contexts[-1])

    def warm_up(self) -> dict[str, float | None]:
        """One repetition that is not counted, then the kv cache is filled to the last context.

        A step behind 1024 rows then reads 1024 rows that were written: pages of a buffer that were not are no memory.

        Returns:
            `peak_rss_mib` after a question and its answer, `peak_rss_full_mib` with a full kv cache; None where the
            system does not tell.
        """
        self.question()
        self.decode(self.plan.contexts[0])
        peak = peak_rss_bytes()
        chunk = self.plan.prompt_tokens
        for past in range(chunk, len(self._ids), chunk):
            self._runner.decode(self._rows(self._ids[past : past + chunk]), past)
        for context in self.plan.contexts[1:]:
            self.decode(context)
        peaks = {"peak_rss_mib": peak, "peak_rss_full_mib": peak_rss_bytes()}
        return {name: value / 2**20 if value else None for name, value in peaks.items()}

    def run(self) -> dict[str, Any]:
        """One repetition.

        Returns:
            `encode_ms` (None without vision), `prefill_ms`, `ttft_ms`; `decode_ms`, for each context the milliseconds
            of each token; `other_cores` that other processes used meanwhile, None where the system does not tell.
        """
        wait_until_quiet(self._wait_s)
        figures, others = watched(self._run)
        return figures | {"other_cores": others}

    def _run(self) -> dict[str, Any]:
        figures = self.question()
        return figures | {"decode_ms": [self.decode(context) for context in self.plan.contexts]}

    def encode(self) -> EmbeddingBlock:
        """The vision stage: (N, D) rows as a runner hands them out, none without vision."""
        if self._pixel_values is None:
            return np.empty((0, self._table.shape[1]), np.float32)
        return self._runner.encode_image(self._pixel_values)

    def question(self) -> dict[str, float | None]:
        """Picture and text in, first token out: milliseconds of the stages, and of all up to the token (TTFT)."""
        begin = time.perf_counter()
        image_embeds = self.encode()
        encoded = time.perf_counter()
        rows = self._prompt(image_embeds)
        spliced = time.perf_counter()
        logits = self._runner.decode(rows, 0)
        filled = time.perf_counter()
        self._token = self._sampler.sample(logits, [])
        end = time.perf_counter()
        encode_ms = (encoded - begin) * 1e3 if self._pixel_values is not None else None
        return {"encode_ms": encode_ms, "prefill_ms": (filled - spliced) * 1e3, "ttft_ms": (end - begin) * 1e3}

    def prefill(self, image_embeds: EmbeddingBlock) -> np.ndarray:
        """The decoder on a prompt that begins with the picture's rows: (V,) float32 logits."""
        return np.asarray(self._runner.decode(self._prompt(image_embeds), 0))

    def decode(self, context: int) -> list[float]:
        """Generate behind `context` rows of the kv cache: milliseconds of each token, its choice included."""
        times = []
        for past in range(context, context + self.plan.decode_tokens):
            begin = time.perf_counter()
            logits = self._runner.decode(self._rows(self._token), past)
            self._token = self._sampler.sample(logits, [])
            times.append((time.perf_counter() - begin) * 1e3)
        return times

    def _prompt(self, image_embeds: EmbeddingBlock) -> Embeddings:
        text = self.plan.prompt_tokens - len(image_embeds)
        return Embeddings([image_embeds, self._rows(self._ids[:text])])

    def _rows(self, ids: Any) -> np.ndarray:
        return self._table.rows(np.atleast_1d(ids))
