"""One bundle that is opened, run and timed on synthetic inputs: times depend on the sizes of inputs, not on content."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

import numpy as np

from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.machine import peak_rss_bytes

from ..embeddings import EmbeddingBlock, Embeddings
from ..open_decoder import open_table
from ..runner import Runner, open_runner
from ..sampling import Sampler, Sampling
from .plan import Plan
from .quiet import wait_until_quiet, watched
from .stopwatch import Stopwatch

SEED = 0


class Start(TypedDict):
    """Milliseconds of opening a bundle, and from there to the first token of a first question."""

    load_ms: float
    first_token_ms: float


class Question(TypedDict):
    """Milliseconds of the stages of a question, and of all up to the first token (TTFT); no encode without vision."""

    encode_ms: float | None
    prefill_ms: float
    ttft_ms: float


class Repetition(Question):
    """A question, the milliseconds of each token behind each context, and the cores other processes used meanwhile.

    `other_cores` is None where the system does not tell.
    """

    decode_ms: list[list[float]]
    other_cores: float | None


class PeakMemory(TypedDict):
    """Largest resident memory after a question and its answer, and with a full kv cache; None: not told."""

    peak_rss_mib: float | None
    peak_rss_full_mib: float | None


class TimedBundle:
    """A bundle that can be opened and closed repeatedly. A process of its own makes its memory its own.

    Args:
        directory: the bundle.
        plan: what to measure.
        longest_wait_s: longest wait for a quiet machine before each measurement.

    Attributes:
        directory: as above.
        plan: as above.
    """

    def __init__(self, directory: Path, plan: Plan, longest_wait_s: float = 0.0):
        """Opens nothing yet."""
        self.directory, self.plan, self._wait_s = directory, plan, longest_wait_s
        self._open: Runner | None = None
        self._inputs: SyntheticInputs | None = None
        self._sampler, self._token = Sampler(Sampling()), 0

    @property
    def runner(self) -> Runner:
        """What runs the stages while the bundle is open."""
        if self._open is None:
            raise RuntimeError("the bundle is not open: call load first")
        return self._open

    @property
    def inputs(self) -> SyntheticInputs:
        """Made by the first `load`."""
        if self._inputs is None:
            raise RuntimeError("the bundle is not open: call load first")
        return self._inputs

    def load(self, profile_to: Path | None = None) -> float:
        """Opens the bundle anew.

        Returns:
            Milliseconds for checking its files and making its sessions, imports not counted.
        """
        self.close()
        wait_until_quiet(self._wait_s)
        watch = Stopwatch()
        bundle = Bundle.open(self.directory)
        self._open = open_runner(bundle, profile_to)
        milliseconds = watch.total_ms()
        if self._inputs is None:
            self._inputs = SyntheticInputs(bundle, self.plan.contexts[-1])
        return milliseconds

    def start(self) -> Start:
        """Opens the bundle anew and asks a first question, whose time includes what is still being opened then."""
        load_ms = self.load()
        return {"load_ms": load_ms, "first_token_ms": load_ms + self.question()["ttft_ms"]}

    def close(self) -> None:
        """Frees the engines' memory."""
        if self._open is not None:
            self._open.close()
        self._open = None

    def answer(self) -> None:
        """Runs one question and as many tokens behind the prompt as the plan decodes."""
        self.question()
        self.decode(self.plan.prompt_tokens)

    def warm_up(self) -> PeakMemory:
        """Runs an answer that is not counted, then fills the kv cache to the last context.

        A step behind 1024 tokens then reads a cache of 1024 that were written: pages of a buffer that were never
        written take no memory.
        """
        self.answer()
        peak = peak_rss_bytes()
        chunk, ids = self.plan.prompt_tokens, self.inputs.ids
        for past in range(chunk, len(ids), chunk):
            self.runner.decode(self.inputs.embed(ids[past : past + chunk]), past)
        for context in self.plan.contexts[1:]:
            self.decode(context)
        return {"peak_rss_mib": _mib(peak), "peak_rss_full_mib": _mib(peak_rss_bytes())}

    def run(self) -> Repetition:
        """Runs one repetition: a question, and tokens behind every context of the plan."""
        wait_until_quiet(self._wait_s)
        (question, tokens), others = watched(self._run)
        return {**question, "decode_ms": tokens, "other_cores": others}

    def _run(self) -> tuple[Question, list[list[float]]]:
        return self.question(), [self.decode(context) for context in self.plan.contexts]

    def run_once(self) -> Repetition:
        """Opens the bundle, runs an answer that is not counted and one repetition, and closes it."""
        self.load()
        try:
            self.answer()
            return self.run()
        finally:
            self.close()

    def encode(self) -> EmbeddingBlock:
        """Runs the vision stage: (N, D) image embeddings as a runner returns them, N = 0 without vision."""
        if self.inputs.pixel_values is None:
            return np.empty((0, self.inputs.table.shape[1]), np.float32)
        return self.runner.encode_image(self.inputs.pixel_values)

    def question(self) -> Question:
        """Runs image and text up to the first token."""
        watch = Stopwatch()
        image_embeds = self.encode()
        encode_ms = watch.lap_ms()
        embeds = self._prompt(image_embeds)
        watch.lap_ms()
        logits = self.runner.decode(embeds, 0)
        prefill_ms = watch.lap_ms()
        self._token = self._sampler.sample(logits, [])
        ttft_ms = watch.total_ms()
        has_vision = self.inputs.pixel_values is not None
        return {"encode_ms": encode_ms if has_vision else None, "prefill_ms": prefill_ms, "ttft_ms": ttft_ms}

    def prefill(self, image_embeds: EmbeddingBlock) -> np.ndarray:
        """Runs the decoder on a prompt that begins with image embeddings (N, D): (V,) float32 logits."""
        return np.asarray(self.runner.decode(self._prompt(image_embeds), 0))

    def decode(self, context: int) -> list[float]:
        """Generates tokens behind a kv cache of `context` tokens: milliseconds of each, sampling included."""
        times = []
        for past in range(context, context + self.plan.decode_tokens):
            watch = Stopwatch()
            logits = self.runner.decode(self.inputs.embed([self._token]), past)
            self._token = self._sampler.sample(logits, [])
            times.append(watch.total_ms())
        return times

    def _prompt(self, image_embeds: EmbeddingBlock) -> Embeddings:
        text_tokens = self.plan.prompt_tokens - len(image_embeds)
        return Embeddings([image_embeds, self.inputs.embed(self.inputs.ids[:text_tokens])])


class SyntheticInputs:
    """An image and text tokens for one bundle.

    Args:
        bundle: the bundle.
        tokens: number of text tokens.

    Attributes:
        table: the bundle's embedding table.
        pixel_values: (1, 3, H, H) float32; None without vision.
        ids: (tokens,) token ids.
    """

    def __init__(self, bundle: Bundle, tokens: int):
        """Draws them, the same for every bundle of these sizes."""
        config, draws = bundle.config, np.random.default_rng(SEED)
        self.table = open_table(bundle)
        self.pixel_values: np.ndarray | None = None
        if config.vision is not None and bundle.has_vision:
            size = config.vision.image_size
            self.pixel_values = draws.standard_normal((1, 3, size, size), np.float32)
        self.ids = draws.integers(0, config.vocab_size, tokens)

    def embed(self, ids: np.ndarray | list[int]) -> np.ndarray:
        """Looks up the embeddings of S tokens: (S, D) float32."""
        return self.table.rows(ids)


def _mib(size: int) -> float | None:
    return size / 2**20 if size else None
