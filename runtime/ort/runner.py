"""ONNX Runtime on a CPU, for bundles of the `ort` lowerings: past and present of the kv cache are one buffer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort

from mobilevlm.commands import localized
from mobilevlm.engines import stages
from mobilevlm.engines.bundle import Bundle, BundleError
from mobilevlm.engines.machine import require_cache_memory, require_memory
from mobilevlm.engines.ort.openvino import MOST_ROWS, OpenVinoGraph, require_package
from mobilevlm.engines.stage_form import OPENVINO

from ..embeddings import EmbeddingBlock
from ..kv_cache import empty_buffers, read_buffers, write_buffers
from ..runner import Runner
from .failures import failures_named
from .prefill import FEWEST_ROWS, Prefill
from .sessions import computed_places, has_room, open_graphs, opens_slowly, weights_path


def open_runner(bundle: Bundle, profile_to: Path | None, on_cpu: bool) -> Runner:
    """Opens a bundle for a CPU; see `runner.open_runner`.

    Args:
        bundle: what to run.
        profile_to: a directory for ONNX Runtime's profiles, None for none.
        on_cpu: makes no difference.
    """
    return OrtRunner(bundle, profile_to)


class OrtRunner:
    """Stages on ONNX Runtime's CPU kernels; see `runner.Runner`.

    Args:
        bundle: what to run.
        profile_to: a directory for ONNX Runtime's profiles, None for none.

    Attributes:
        max_context: tokens that the kv cache holds.
        prompts_by: stage that runs long prompts: the decoder where there is no prefill, or no memory for it.
        same_arithmetic: the build's verification run computes like this.

    Raises:
        BundleError: its graphs cannot be loaded here, or were written by another version.
    """

    same_arithmetic = True

    def __init__(self, bundle: Bundle, profile_to: Path | None = None):
        self._bundle, config, forms = bundle, bundle.config, bundle.manifest.forms
        if any(form.runtime == OPENVINO for form in forms.values()):
            require_package(bundle.directory)
        layers = _graphs(bundle)
        require_memory({stage: sum(map(self._size, parts)) for stage, parts in layers.items()}, forms)
        self.max_context = bundle.manifest.max_context
        require_cache_memory(config, self.max_context, np.dtype(forms[stages.DECODER].cache_dtype).itemsize)
        places = computed_places(bundle)
        if stages.PREFILL in layers and not has_room(places):
            del layers[stages.PREFILL]
        self.prompts_by = stages.PREFILL if stages.PREFILL in layers else stages.DECODER
        # Slow ones are still being opened when this returns: somebody has to ask first.
        graphs = open_graphs(bundle, layers, places, profile_to)
        decoder, self._decoder_pages = graphs[stages.DECODER].result()
        assert not isinstance(decoder, OpenVinoGraph)  # which cannot append to a kv cache in place
        self._decoder = decoder
        if bundle.has_vision:
            self._vision = graphs[stages.VISION]
            if not opens_slowly(bundle, stages.VISION):
                self._vision.result()  # or what is wrong with it
        buffers = empty_buffers(config, self.max_context, forms[stages.DECODER].cache_dtype == "int8")
        # An OrtValue over the numpy buffer, not a copy of it: binding it as past and present updates it in place.
        self._caches = {key: ort.OrtValue.ortvalue_from_numpy(buffer) for key, buffer in buffers.items()}
        self._buffers = buffers
        self._last_row = np.zeros(1, np.int32)
        self._total = np.zeros((), np.int32)
        self._logits = np.zeros((1, config.vocab_size), np.float32)
        # Decode steps all look alike: one binding over buffers that are rewritten, made once.
        self._one_row = np.zeros((1, 1, config.hidden_size), np.float32)
        with failures_named(bundle, stages.DECODER):
            self._one_row_binding = self._bind(self._one_row)
        self._prefill: Prefill | None = None
        if parts := layers.get(stages.PREFILL):
            most_rows = MOST_ROWS if forms[stages.PREFILL].runtime == OPENVINO else None
            opened = {part: graphs[part] for part in parts}
            self._prefill = Prefill(opened, parts, self._decoder_pages, buffers, most_rows)

    def encode_image(self, pixel_values: np.ndarray) -> np.ndarray:
        """Runs the vision stage: (1, 3, H, H) float32 to (N, D) float32."""
        vision, pages = self._vision.result()
        self._decoder_pages.release(pages.size)  # of a decoder of floats, whose weights are mapped
        with failures_named(self._bundle, stages.VISION):
            embeds = vision.run([stages.IMAGE_EMBEDS], {stages.PIXEL_VALUES: pixel_values})[0][0]
        pages.release()
        return embeds.copy()  # OpenVINO's are the graph's own

    def remedy(self) -> str:
        """Returns what to do about a bundle that computes something else here: a build here, or floats."""
        built_with = self._bundle.manifest.versions.get("onnxruntime")
        version = f", or with ONNX Runtime {built_with} (pip install onnxruntime=={built_with})"
        return (
            f"Build it on this machine{version * (built_with not in (None, ort.__version__))}: "
            f"{localized(self._bundle.manifest.command)} (or with --precision fp32, which needs no integer kernels)"
        )

    def close(self) -> None:
        """Nothing to do: graphs go with the last reference to them."""

    def decode(self, inputs_embeds: EmbeddingBlock, past: int) -> np.ndarray:
        """Runs tokens that follow the first `past` of the kv cache; see `runner.Runner`.

        Args:
            inputs_embeds: (S, D) float32.
            past: tokens of the kv cache that stay.
        """
        inputs_embeds = np.asarray(inputs_embeds)
        rows = len(inputs_embeds)
        if self._bundle.has_vision:
            self._vision.result()  # while its weights are copied, all of the decoder's would be the most memory of all
        if rows >= FEWEST_ROWS and self._prefill is not None:
            return self._run_prefill(self._prefill, inputs_embeds, past)
        self._last_row[0] = past + rows - 1
        self._total[...] = past + rows
        with failures_named(self._bundle, stages.DECODER):
            if rows == 1:
                self._one_row[0] = inputs_embeds
                binding = self._one_row_binding
            else:
                binding = self._bind(np.ascontiguousarray(inputs_embeds)[None])
            self._decoder.run_with_iobinding(binding)
        return self._logits[0]

    def prefill(self, inputs_embeds: EmbeddingBlock, past: int) -> np.ndarray:
        """Runs tokens as `decode` runs many, however few they are; see `runner.Runner`.

        Args:
            inputs_embeds: (S, D) float32.
            past: tokens of the kv cache that stay.
        """
        if self._prefill is None:
            return self.decode(inputs_embeds, past)
        return self._run_prefill(self._prefill, np.asarray(inputs_embeds), past)

    def read_cache(self, start: int, stop: int) -> np.ndarray:
        """Copies rows out of the kv cache; see `runner.Runner`.

        Args:
            start: index of the first token.
            stop: index behind the last one.
        """
        return read_buffers(self._buffers, start, stop)

    def write_cache(self, start: int, rows: np.ndarray) -> None:
        """Copies rows into the kv cache; see `runner.Runner`.

        Args:
            start: index of their first token.
            rows: what `read_cache` returned.
        """
        write_buffers(self._buffers, start, rows)

    def _run_prefill(self, prefill: Prefill, inputs_embeds: np.ndarray, past: int) -> np.ndarray:
        with failures_named(self._bundle, stages.PREFILL):
            return prefill.run(inputs_embeds, past)

    def _bind(self, inputs_embeds: np.ndarray) -> ort.IOBinding:
        binding = self._decoder.io_binding()
        binding.bind_cpu_input(stages.INPUTS_EMBEDS, inputs_embeds)
        logits = self._logits
        binding.bind_output(stages.LOGITS, "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        binding.bind_cpu_input(stages.SEQLENS_K, self._last_row)
        binding.bind_cpu_input(stages.TOTAL_SEQUENCE_LENGTH, self._total)
        for (layer, part), buffer in self._caches.items():  # one as past and as present
            binding.bind_ortvalue_input(stages.past(layer, part), buffer)
            binding.bind_ortvalue_output(stages.present(layer, part), buffer)
        return binding

    def _size(self, part: str) -> int:
        return weights_path(self._bundle, part).stat().st_size


def _graphs(bundle: Bundle) -> dict[str, dict[str, range]]:
    """Returns the graphs of each stage, with the layers of the decoder in each.

    Raises:
        BundleError: some are not in the bundle.
    """
    layers, forms = bundle.config.num_hidden_layers, bundle.manifest.forms
    graphs = {stage: stages.parts(stage, layers, form.layers_per_file) for stage, form in forms.items()}
    files = [stages.onnx_file(part) for parts in graphs.values() for part in parts]
    if missing := [name for name in files if name not in bundle.manifest.files]:
        raise BundleError(
            f"{bundle.directory} was built by another version, which wrote no {missing[0]}. "
            f"Build it again: {localized(bundle.manifest.command)}"
        )
    return graphs
