"""TensorRT without PyTorch, for bundles whose engines were made here by `engines/compile.py`.

All memory is taken once, when a bundle is opened. A token is one launch of a CUDA graph, one copy of its rows into the
cache, and one wait for the few tokens that are likeliest; all logits are copied when a choice needs them.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mobilevlm.engines import stages
from mobilevlm.engines.bundle import Bundle, BundleError
from mobilevlm.engines.chunks import chunks
from mobilevlm.engines.stages import IMAGE_EMBEDS, INPUTS_EMBEDS, LOGITS, PIXEL_VALUES, TOP_LOGITS, TOP_TOKENS
from mobilevlm.engines.tensorrt.buckets import PROMPT_ROWS
from mobilevlm.engines.tensorrt.cuda_device import CudaError, compute_capability
from mobilevlm.engines.tensorrt.library import RTX, import_tensorrt, library_of
from mobilevlm.engines.tensorrt.profiles import decoder_pieces
from mobilevlm.engines.tensorrt.record import compile_command, require_usable
from mobilevlm.errors import UserError

from ..embeddings import EmbeddingBlock, Embeddings
from ..runner import Runner
from ..top_logits import TopLogits
from .calls import Calls, Sizes
from .cuda import DeviceMemory, Event, Layout, PinnedMemory, Stream
from .engine import Context, Engine, Loader, TrtError
from .kernels import kernels_file
from .pictures import PLACES, DeviceRows, Pictures
from .steps import INPUTS, TOP, Decoder, Step

SCRATCH, PICTURES = "scratch", "pictures"


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
        self._library = library_of(bundle.manifest.target)
        version = import_tensorrt(self._library).__version__
        self._capability = compute_capability()
        require_usable(bundle, version, self._capability)
        self.max_context = bundle.manifest.max_context
        self.not_captured = ""
        self._directory = bundle.directory
        self._memory: list[DeviceMemory | PinnedMemory] = []
        self._engines: list[Engine] = []
        self._tokens: dict[Sizes, Step] = {}
        self._bound: Sizes | None = None
        self._stream, self._done, self._sent = Stream(), Event(), Event()
        try:
            self._load(bundle)
            self._reserve(bundle)
            self._prepare_tokens()
            for engine in self._engines:
                engine.keep_kernels()
        except BaseException:
            self.close()
            raise

    def _load(self, bundle: Bundle) -> None:
        config, pieces = bundle.config, decoder_pieces(bundle.manifest.parts)
        self._loader = Loader(self._library, compile_command(bundle.directory))
        engines = {part: self._load_engine(bundle, part) for part in pieces}
        self._decoder = Decoder(engines, Calls(config, pieces, engines), config.hidden_size, config.vocab_size)
        self._vision = self._load_engine(bundle, stages.VISION) if bundle.has_vision else None
        self._engines = [*engines.values(), *([self._vision] if self._vision else [])]

    def _load_engine(self, bundle: Bundle, part: str) -> Engine:
        version, is_rtx = self._loader.trt.__version__, self._library is RTX
        kernels = kernels_file(bundle, part, version, self._capability) if is_rtx else None
        return self._loader.load(bundle.path(stages.engine_file(part)), kernels)

    def _reserve(self, bundle: Bundle) -> None:
        """One block on the device for everything, and a few that the host reads and writes."""
        sizes = self._decoder.regions()
        self._scratch_bytes = sizes[SCRATCH] = max(engine.scratch_bytes for engine in self._engines)
        pinned = {name: sizes[name] for name in (INPUTS, TOP, LOGITS)}
        if self._vision:
            self._picture = {name: self._vision.shape(name) for name in (PIXEL_VALUES, IMAGE_EMBEDS)}
            pinned |= {name: self._vision.size(name, shape) for name, shape in self._picture.items()}
            sizes[PICTURES] = PLACES * pinned[IMAGE_EMBEDS]
        layout = Layout()
        for name, size in (sizes | pinned).items():
            layout.add(name, size)
        # The large one first: on a Jetson free memory falls into pieces.
        block = DeviceMemory(layout.size, self._stream)
        self._memory.append(block)
        self._regions = {name: block.address + offset for name, offset in layout.offsets.items()}
        self._pinned: dict[str, PinnedMemory] = {}
        for name, size in pinned.items():
            self._pinned[name] = PinnedMemory(size)
            self._memory.append(self._pinned[name])
        self._prompt_contexts = self._contexts()
        self._prompts: dict[Sizes, Step] = {}
        if self._vision:
            self._vision_context = self._vision.context(self._regions[SCRATCH], self._scratch_bytes)
            places = {name: self._regions[name] for name in self._picture}
            self._vision_context.bind(0, {}, places, self._stream)
            _, *shape = self._picture[IMAGE_EMBEDS]
            row_bytes = pinned[IMAGE_EMBEDS] // shape[0]
            self._pictures = Pictures(self._regions[PICTURES], shape, row_bytes, self._picture_rows)

    def _contexts(self) -> list[Context]:
        """One for each piece; all share the memory they work in, as only one runs at a time."""
        engines = self._decoder.engines.values()
        return [engine.context(self._regions[SCRATCH], self._scratch_bytes) for engine in engines]

    def _step(self, sizes: Sizes, contexts: list[Context]) -> Step:
        return Step(self._decoder, sizes, contexts, self._regions, self._pinned)

    def _prepare_tokens(self) -> None:
        """Capture a token for each length of the cache, with contexts of its own: a graph holds on to their state."""
        for sizes in self._decoder.calls.tokens:
            step = self._tokens[sizes] = self._step(sizes, self._contexts())
            step.bind(self._stream)
            step.queue(self._stream)  # what a first run does besides is not to be captured
            self._stream.synchronize()
            if self.not_captured:
                continue
            try:
                step.graph = self._stream.capture(lambda step=step: step.queue(self._stream))
            except (CudaError, TrtError) as error:
                self.not_captured = str(error)
                warnings.warn(f"tokens run without CUDA graphs, which is slower: {error}", stacklevel=2)

    def encode_image(self, pixel_values: np.ndarray) -> np.ndarray | DeviceRows:
        """Run the vision stage: (1, 3, H, H) float32 to (N, D) rows, which stay on the GPU where there is room."""
        stream, source = self._require_open(), self._pinned[PIXEL_VALUES]
        # The decoder takes them as they are, or they are cast on the host.
        stays = self._vision.dtype(IMAGE_EMBEDS) == self._decoder.dtype(INPUTS_EMBEDS)
        with self._settled():
            source.array(0, self._picture[PIXEL_VALUES], np.float32)[...] = pixel_values
            stream.to_device(self._regions[PIXEL_VALUES], source.address, source.size)
            self._vision_context.run(stream)
            embeds, size = self._regions[IMAGE_EMBEDS], self._pinned[IMAGE_EMBEDS].size
            if stays and (rows := self._pictures.take()) is not None:
                stream.copy_rows(rows.address, size, embeds, size, size, 1)
                stream.synchronize()
                return rows
        return self._picture_rows(embeds, self._picture[IMAGE_EMBEDS][1])

    def _picture_rows(self, address: int, count: int) -> np.ndarray:
        """Rows of a picture's embeddings on the GPU: (count, D) float32."""
        stream, pinned, width = self._require_open(), self._pinned[IMAGE_EMBEDS], self._picture[IMAGE_EMBEDS][2]
        dtype = self._vision.dtype(IMAGE_EMBEDS)
        with self._settled():
            stream.to_host(pinned.address, address, count * width * dtype.itemsize)
            stream.synchronize()
        return pinned.array(0, (count, width), dtype).astype(np.float32)

    def decode(self, inputs_embeds: EmbeddingBlock, past: int) -> TopLogits:
        """Runs tokens that follow the first `past` of the kv cache; all logits but the largest stay on the GPU.

        Args:
            inputs_embeds: (S, D) float32, in part perhaps on the GPU.
            past: tokens of the kv cache that stay.
        """
        self._run(inputs_embeds, past)
        layout, pinned = self._decoder.top_logits, self._pinned[TOP]
        engine = list(self._decoder.engines.values())[-1]
        logits, tokens = (
            pinned.array(layout.offsets[name], engine.shape(name), engine.dtype(name))[0].copy()
            for name in (TOP_LOGITS, TOP_TOKENS)
        )
        return TopLogits(tokens, logits, self._decoder.vocabulary, self._all_logits)

    def prefill(self, inputs_embeds: EmbeddingBlock, past: int) -> TopLogits:
        """Runs `decode`: there is no separate prefill.

        Args:
            inputs_embeds: (S, D) float32, in part perhaps on the GPU.
            past: tokens of the kv cache that stay.
        """
        return self.decode(inputs_embeds, past)

    def _all_logits(self) -> np.ndarray:
        stream, pinned = self._require_open(), self._pinned[LOGITS]
        with self._settled():
            stream.to_host(pinned.address, self._regions[LOGITS], pinned.size)
            stream.synchronize()
        return pinned.array(0, (self._decoder.vocabulary,), np.float32)

    def _run(self, inputs_embeds: EmbeddingBlock, past: int) -> None:
        self._require_open()
        rows = inputs_embeds if isinstance(inputs_embeds, Embeddings) else Embeddings([inputs_embeds])
        if not 0 < len(rows) <= self.max_context - past:
            raise ValueError(f"{len(rows)} rows behind {past} are not 1 to {self.max_context} in all")
        with self._settled():
            for piece in chunks(len(rows), PROMPT_ROWS):
                self._call(rows[piece], past + piece.start)
            self._done.wait()

    def _call(self, rows: Embeddings, past: int) -> None:
        stream, calls = self._stream, self._decoder.calls
        sizes = calls.sizes(len(rows), past)
        step = self._tokens.get(sizes) or self._prompt(sizes)
        self._sent.wait()  # the inputs before are on the GPU: theirs may be overwritten
        step.fill(rows, past)
        if step.graph is None:
            step.send(stream)
            self._sent.record(stream)
            step.run(stream)
            step.fetch(stream)
        else:
            step.graph.launch(stream)
            self._sent.record(stream)
        self._done.record(stream)  # the tokens are there; rows may go on into the cache meanwhile
        calls.keep(len(rows), past, sizes, self._regions, stream)

    def _prompt(self, sizes: Sizes) -> Step:
        """A call for several rows, whose contexts are told of it."""
        if sizes not in self._prompts:
            self._prompts[sizes] = self._step(sizes, self._prompt_contexts)
        step = self._prompts[sizes]
        if self._bound != sizes:
            self._bound = None
            step.bind(self._stream)
            self._bound = sizes
        return step

    @contextlib.contextmanager
    def _settled(self) -> Iterator[None]:
        """Leave nothing half done behind an error, so that the next question can be answered."""
        try:
            yield
        except BaseException:
            self._bound = None
            with contextlib.suppress(CudaError):  # where the GPU's state is lost, the next call says so again
                self._stream.synchronize()
            raise

    def _require_open(self) -> Stream:
        if self._stream is None:
            raise UserError(f"{self._directory} was closed: open it again")
        return self._stream

    def close(self) -> None:
        """Give everything back: graphs before their contexts, these before engines, and memory when all is still."""
        stream, self._stream = self._stream, None
        if stream is None:
            return
        # After a fault of the GPU nothing can be given back any more, and nothing has to.
        with contextlib.suppress(CudaError):
            stream.synchronize()
            for engine in self._engines:
                engine.keep_kernels()  # those of prompts, too
        for step in self._tokens.values():
            with contextlib.suppress(CudaError):
                if step.graph is not None:
                    step.graph.close()
        self._tokens = self._prompts = {}
        self._prompt_contexts = self._vision_context = None
        self._decoder = self._vision = self._loader = None
        self._engines = []
        self._pinned = {}
        for thing in (*reversed(self._memory), self._sent, self._done, stream):
            with contextlib.suppress(CudaError):
                thing.close()
