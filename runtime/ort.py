"""ONNX Runtime on a CPU, for bundles of the `gqa` lowering: past and present of the kv cache are one buffer."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime as ort

from mobilevlm.engines import stages
from mobilevlm.engines.bundle import Bundle, BundleError
from mobilevlm.engines.machine import require_memory
from mobilevlm.engines.targets import QUANTIZED

from .kv_cache import empty_buffers
from .pages import Pages
from .prefill import FEWEST_ROWS, Prefill

EXTEND_AS_REQUESTED = 1  # not by powers of two


class OrtRunner:
    """See `runner.Runner`."""

    def __init__(self, bundle: Bundle, profile_to: Path | None = None):
        self._bundle, config, precisions = bundle, bundle.config, bundle.manifest.precision
        layers = {stage: stages.parts(stage, config.num_hidden_layers) for stage in precisions}
        require_memory({stage: sum(map(self._size, parts)) for stage, parts in layers.items()}, precisions)
        self.max_context = bundle.manifest.max_context
        opened = _sessions(bundle, layers, profile_to)
        graphs = {part: session for part, (session, _) in opened.items()}
        self._pages = {part: pages for part, (_, pages) in opened.items()}
        self._vision = graphs.get(stages.VISION)
        self._decoder = graphs[stages.DECODER]
        buffers = empty_buffers(config.num_hidden_layers, config.num_key_value_heads, self.max_context, config.head_dim)
        # An OrtValue over the numpy buffer, not a copy of it: binding it as past and present updates it in place.
        self._caches = {key: ort.OrtValue.ortvalue_from_numpy(buffer) for key, buffer in buffers.items()}
        self._buffers = buffers
        self._last_row = np.zeros(1, np.int32)
        self._total = np.zeros((), np.int32)
        self._logits = np.zeros((1, config.vocab_size), np.float32)
        # Decode steps all look alike: one binding over buffers that are rewritten, made once.
        self._one_row = np.zeros((1, 1, config.hidden_size), np.float32)
        self._one_row_binding = self._bind(self._one_row)
        self._prefill = None
        if stages.PREFILL in layers:
            parts = layers[stages.PREFILL]
            prefill = {part: graphs[part] for part in parts}
            self._prefill = Prefill(prefill, parts, self._pages)

    def encode_image(self, pixel_values: np.ndarray) -> np.ndarray:
        """Run the vision stage: (1, 3, H, H) float32 to (N, D) float32."""
        pages = self._pages[stages.VISION]
        self._pages[stages.DECODER].release(pages.size)  # never in memory on top of all of the decoder's
        embeds = self._vision.run([stages.IMAGE_EMBEDS], {stages.PIXEL_VALUES: pixel_values})[0][0]
        pages.release()
        return embeds

    def decode(self, inputs_embeds: np.ndarray, past: int) -> np.ndarray:
        """Run rows that follow `past` rows of the cache; see `runner.Runner`."""
        rows = len(inputs_embeds)
        self._last_row[0] = past + rows - 1
        self._total[...] = past + rows
        if self._prefill is not None and rows >= FEWEST_ROWS:
            return self._prefill.run(inputs_embeds, self._bind_cache)
        if rows == 1:
            self._one_row[0] = inputs_embeds
            binding = self._one_row_binding
        else:
            binding = self._bind(np.ascontiguousarray(inputs_embeds)[None])
        self._decoder.run_with_iobinding(binding)
        return self._logits[0]

    def _bind(self, inputs_embeds: np.ndarray) -> ort.IOBinding:
        binding = self._decoder.io_binding()
        binding.bind_cpu_input(stages.INPUTS_EMBEDS, inputs_embeds)
        logits = self._logits
        binding.bind_output(stages.LOGITS, "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        self._bind_cache(binding, range(self._bundle.config.num_hidden_layers))
        return binding

    def _bind_cache(self, binding: ort.IOBinding, layers: range) -> None:
        """Bind positions, and the kv cache of some layers: one buffer as past and as present."""
        binding.bind_cpu_input(stages.SEQLENS_K, self._last_row)
        binding.bind_cpu_input(stages.TOTAL_SEQUENCE_LENGTH, self._total)
        for layer in layers:
            for part in ("key", "value"):
                binding.bind_ortvalue_input(stages.past(layer, part), self._caches[layer, part])
                binding.bind_ortvalue_output(stages.present(layer, part), self._caches[layer, part])

    def _size(self, part: str) -> int:
        return _weights(self._bundle, part).stat().st_size


def _weights(bundle: Bundle, part: str) -> Path:
    return bundle.path(stages.weights_file(part)).resolve()


def _sessions(
    bundle: Bundle, parts: Mapping[str, Mapping[str, range]], profile_to: Path | None
) -> dict[str, tuple[ort.InferenceSession, Pages]]:
    """All of a bundle's graphs by name, two at a time: ONNX Runtime opens each on one core. And where weights lie."""
    _share_memory()
    named = [(stage, part) for stage, names in parts.items() for part in names]
    with ThreadPoolExecutor(2) as pool:
        opened = pool.map(lambda names: _session(bundle, *names, profile_to), named)
        return dict(zip((part for _, part in named), opened, strict=True))


@cache
def _share_memory() -> None:
    """One arena for all graphs of this process: with one of its own, each keeps the memory of its largest tensors."""
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg({"arena_extend_strategy": EXTEND_AS_REQUESTED}))


def _session(bundle: Bundle, stage: str, part: str, profile_to: Path | None) -> tuple[ort.InferenceSession, Pages]:
    options = ort.SessionOptions()
    options.add_session_config_entry("session.use_env_allocators", "1")
    # A graph's threads would spin on after its run, in the way of the next graph's.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3  # errors only: stderr belongs to the commands
    if bundle.manifest.precision[stage] in QUANTIZED:
        # These files are finished: operators fused, weights laid out for the kernels.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    else:
        # Mapped weights are used where they lie: a bundle opens at once, and what is not in use can be paged out.
        options.add_session_config_entry("session.disable_prepacking", "1")
    # A memory pattern asks for all weights' size at once, mapped or not, which fails beyond the machine's memory.
    options.enable_mem_pattern = False
    if profile_to is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile_to / part)
    path = bundle.path(stages.onnx_file(part))
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        pages = Pages(_weights(bundle, part))
        pages.release()  # loading reads more of it than running does
        return session, pages
    except Exception as error:
        # onnxruntime's own exceptions have no common public base class.
        if "onnxruntime" not in type(error).__module__:
            raise
        raise BundleError(
            f"ONNX Runtime {ort.__version__} cannot load {path}: {error}. The bundle was built with "
            f"{bundle.manifest.versions.get('onnxruntime')}; build it again here: {bundle.manifest.command}"
        ) from None
