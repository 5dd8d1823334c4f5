"""TensorRT without PyTorch, for bundles whose engines were made here by `engines/compile.py`.

All memory is taken once, when a bundle is opened. A token is one launch of a CUDA graph, one copy of its keys and
values into the kv cache, and one wait for the few largest logits; all logits are copied when a choice needs them.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mobilevlm.commands import command, localized
from mobilevlm.engines import stages
from mobilevlm.engines.bundle import Bundle, BundleError
from mobilevlm.engines.chunks import chunks
from mobilevlm.engines.stages import LOGITS, TOP_LOGITS, TOP_TOKENS
from mobilevlm.engines.tensorrt.buckets import PROMPT_ROWS
from mobilevlm.engines.tensorrt.cuda_device import CudaError
from mobilevlm.errors import UserError

from ..embeddings import EmbeddingBlock, Embeddings
from ..runner import Runner
from ..top_logits import TopLogits
from .buffers import Buffers
from .calls import Sizes
from .cuda import Event, Graph, Stream, settled
from .engine import TrtError
from .engines import load_engines
from .image_embeds import DeviceEmbeddings
from .opened import Opened, make_contexts, open_stages
from .steps import TOP, Step


def open_runner(bundle: Bundle, profile_to: Path | None, on_cpu: bool) -> Runner:
    """Opens a bundle for an NVIDIA GPU; see `runner.open_runner`.

    Args:
        bundle: what to run.
        profile_to: None, as TensorRT's own tool makes the profiles.
        on_cpu: whether to run its graphs on the CPU instead.

    Raises:
        BundleError: a profile is asked for, or see `TrtRunner`.
    """
    if profile_to is not None:
        raise BundleError(f"{bundle.directory} is for TensorRT, which profiles by layer with trtexec")
    if on_cpu:
        from .on_cpu import GraphRunner  # ONNX Runtime, which TensorRT does without

        return GraphRunner(bundle)
    return TrtRunner(bundle)


class TrtRunner:
    """Stages on an NVIDIA GPU; see `runner.Runner`.

    Args:
        bundle: what to run, with its engines.

    Attributes:
        max_context: tokens that the kv cache holds.
        prompts_by: the decoder, which runs prompts itself.
        same_arithmetic: a GPU computes in float16, the build's run is in float32.
        not_captured: why tokens run without CUDA graphs, which is slower; empty when they have them.

    Raises:
        BundleError: its engines are missing, or were made elsewhere.
        UserError: TensorRT, CUDA or a GPU is missing, or memory is short.
    """

    prompts_by = stages.DECODER
    same_arithmetic = False

    def __init__(self, bundle: Bundle):
        self._bundle = bundle
        self.max_context = bundle.manifest.max_context
        self.not_captured = ""
        self._directory = bundle.directory
        self._opened: Opened | None = None
        self._bound: Sizes | None = None
        engines = load_engines(bundle)
        self._stream, self._done, self._sent = Stream(), Event(), Event()
        try:
            self._opened = open_stages(engines, self._stream)
            self._prepare_tokens(self._opened)
            engines.keep_kernels()
        except BaseException:
            self.close()
            raise

    def _prepare_tokens(self, opened: Opened) -> None:
        """Captures a token for each length of the cache, with separate contexts: a graph holds on to their state."""
        stream, decoder = self._stream, opened.engines.decoder
        for sizes in decoder.calls.tokens:
            step = Step(decoder, sizes, make_contexts(opened.engines, opened.buffers), opened.buffers)
            opened.tokens[sizes] = step
            step.bind(stream)
            step.queue(stream)  # what a first run does besides is not to be captured
            stream.synchronize()
            if self.not_captured:
                continue
            try:
                step.graph = _captured(step, stream)
            except (CudaError, TrtError) as error:
                self.not_captured = str(error)
                warnings.warn(f"tokens run without CUDA graphs, which is slower: {error}", stacklevel=2)

    def encode_image(self, pixel_values: np.ndarray) -> np.ndarray | DeviceEmbeddings:
        """Runs the vision stage: (1, 3, H, H) float32 to (N, D), which stay on the GPU where there is room."""
        vision = self._require_open().vision
        if vision is None:
            raise UserError(f"{self._directory} is a text-only model: it takes no image")
        return vision.encode(pixel_values)

    def decode(self, inputs_embeds: EmbeddingBlock, past: int) -> TopLogits:
        """Runs tokens that follow the first `past` of the kv cache; all logits but the largest stay on the GPU.

        Args:
            inputs_embeds: (S, D) float32, in part perhaps on the GPU.
            past: tokens of the kv cache that stay.
        """
        opened = self._require_open()
        embeds = inputs_embeds if isinstance(inputs_embeds, Embeddings) else Embeddings([inputs_embeds])
        if not 0 < len(embeds) <= self.max_context - past:
            raise ValueError(f"{len(embeds)} rows behind {past} are not 1 to {self.max_context} in all")
        with self._settled():
            for piece in chunks(len(embeds), PROMPT_ROWS):
                self._call(opened, embeds[piece], past + piece.start)
            self._done.wait()
        decoder, pinned = opened.engines.decoder, opened.buffers.pinned[TOP]
        offsets = decoder.top_logits.offsets
        logits, tokens = (
            pinned.array(offsets[name], decoder.last.shape(name), decoder.last.dtype(name))[0].copy()
            for name in (TOP_LOGITS, TOP_TOKENS)
        )
        return TopLogits(tokens, logits, decoder.vocabulary, self._all_logits)

    def prefill(self, inputs_embeds: EmbeddingBlock, past: int) -> TopLogits:
        """Runs `decode`: there is no separate prefill.

        Args:
            inputs_embeds: (S, D) float32, in part perhaps on the GPU.
            past: tokens of the kv cache that stay.
        """
        return self.decode(inputs_embeds, past)

    def read_cache(self, start: int, stop: int) -> np.ndarray:
        """Copies rows out of the kv cache; see `runner.Runner`.

        Args:
            start: index of the first token.
            stop: index behind the last one.
        """
        opened = self._require_open()
        with self._settled():
            return opened.cache_rows.read(start, stop)

    def write_cache(self, start: int, rows: np.ndarray) -> None:
        """Copies rows into the kv cache; see `runner.Runner`.

        Args:
            start: index of their first token.
            rows: what `read_cache` returned.
        """
        opened = self._require_open()
        with self._settled():
            opened.cache_rows.write(start, rows)

    def _call(self, opened: Opened, embeds: Embeddings, past: int) -> None:
        stream, calls = self._stream, opened.engines.decoder.calls
        sizes = calls.sizes(len(embeds), past)
        step = opened.tokens.get(sizes) or self._prompt(opened, sizes)
        self._sent.wait()  # the inputs before are on the GPU: theirs may be overwritten
        step.fill(embeds, past)
        if step.graph is None:
            step.send(stream)
            self._sent.record(stream)
            step.run(stream)
            step.fetch(stream)
        else:
            step.graph.launch(stream)
            self._sent.record(stream)
        self._done.record(stream)  # the logits are there; keys and values may go on into the cache meanwhile
        calls.keep(len(embeds), past, sizes, opened.buffers.regions, stream)

    def _prompt(self, opened: Opened, sizes: Sizes) -> Step:
        """Returns a call for several tokens, whose contexts are told of it."""
        if sizes not in opened.prompts:
            opened.prompts[sizes] = Step(opened.engines.decoder, sizes, opened.prompt_contexts, opened.buffers)
        step = opened.prompts[sizes]
        if self._bound != sizes:
            self._bound = None
            step.bind(self._stream)
            self._bound = sizes
        return step

    def _all_logits(self) -> np.ndarray:
        opened, stream = self._require_open(), self._stream
        pinned = opened.buffers.pinned[LOGITS]
        with self._settled():
            stream.to_host(pinned.address, opened.buffers.regions[LOGITS], pinned.size)
            stream.synchronize()
        return pinned.array(0, (opened.engines.decoder.vocabulary,), np.float32)

    @contextlib.contextmanager
    def _settled(self) -> Iterator[None]:
        """Leaves nothing half done behind an error."""
        try:
            with settled(self._stream):
                yield
        except BaseException:
            self._bound = None
            raise

    def _require_open(self) -> Opened:
        if self._opened is None:
            raise UserError(f"{self._directory} was closed: open it again")
        return self._opened

    def remedy(self) -> str:
        """Returns what to do about engines that compute something else here: others, made here."""
        directory = self._bundle.directory
        return (
            f"Delete {directory}'s .engine files and timing.cache, then compile it here again: "
            f"{command('engines/compile.py', directory)}. Where that does not help, build it again: "
            f"{localized(self._bundle.manifest.command)}"
        )

    def close(self) -> None:
        """Frees everything: graphs before their contexts, these before engines, and memory when all is still."""
        closing: list[Buffers | Event | Stream] = [self._sent, self._done, self._stream]
        if self._opened is not None:
            self._opened.finish(self._stream)
            closing.insert(0, self._opened.buffers)
        self._opened = None  # contexts and engines go with the last reference to them
        for thing in closing:
            with contextlib.suppress(CudaError):  # after a fault of the GPU nothing can be freed, and need not be
                thing.close()


def _captured(step: Step, stream: Stream) -> Graph:
    return stream.capture(lambda: step.queue(stream))
