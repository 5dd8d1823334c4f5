"""ONNX Runtime on a CPU, for bundles of the `gqa` lowering: past and present of the kv cache are one buffer."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort

from mobilevlm.engines import stages
from mobilevlm.engines.bundle import Bundle, BundleError
from mobilevlm.engines.machine import require_memory
from mobilevlm.engines.targets import QUANTIZED

from .kv_cache import empty_buffers
from .pages import release
from .prefill import FEWEST_ROWS, Prefill


class OrtRunner:
    """See `runner.Runner`."""

    def __init__(self, bundle: Bundle, profile_to: Path | None = None):
        self._bundle, config, precisions = bundle, bundle.config, bundle.manifest.precision
        layers = {stage: stages.parts(stage, config.num_hidden_layers) for stage in precisions}
        require_memory({stage: sum(map(self._size, parts)) for stage, parts in layers.items()}, precisions)
        self.max_context = bundle.manifest.max_context
        graphs = _sessions(bundle, layers, profile_to)
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
            self._prefill = Prefill(prefill, parts, lambda part: release(_weights(bundle, part)))

    def encode_image(self, pixel_values: np.ndarray) -> np.ndarray:
        """Run the vision stage: (1, 3, H, H) float32 to (N, D) float32."""
        embeds = self._vision.run([stages.IMAGE_EMBEDS], {stages.PIXEL_VALUES: pixel_values})[0][0]
        release(_weights(self._bundle, stages.VISION))  # the decoder needs the memory now
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
) -> dict[str, ort.InferenceSession]:
    """All of a bundle's graphs by name, two at a time: ONNX Runtime opens each on one core."""
    named = [(stage, part) for stage, names in parts.items() for part in names]
    with ThreadPoolExecutor(2) as pool:
        opened = pool.map(lambda names: _session(bundle, *names, profile_to), named)
        return {part: session for (_, part), session in zip(named, opened, strict=True)}


def _session(bundle: Bundle, stage: str, part: str, profile_to: Path | None) -> ort.InferenceSession:
    options = ort.SessionOptions()
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
        release(_weights(bundle, part))  # loading reads more of it than running does
        return session
    except Exception as error:
        # onnxruntime's own exceptions have no common public base class.
        if "onnxruntime" not in type(error).__module__:
            raise
        raise BundleError(
            f"ONNX Runtime {ort.__version__} cannot load {path}: {error}. The bundle was built with "
            f"{bundle.manifest.versions.get('onnxruntime')}; build it again here: {bundle.manifest.command}"
        ) from None
