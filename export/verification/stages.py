"""Runs the stages that a build has written, as a device's runtime will, on ONNX Runtime's CPU: to verify them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx
import onnxruntime as ort

from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.engines import stages
from mobilevlm.engines.chunks import PROMPT_ROWS, ChunkedDecoder, Run
from mobilevlm.engines.ort.openvino import Alike, OpenVinoGraph, open_stage
from mobilevlm.engines.targets import INT4, INT8_AMX

from .unrounded import without_rounding
from .written_weights import WrittenGraph

HALF_MAX = float(np.finfo(np.float16).max)
# Of float16's range: other pictures and questions go further than the ones that were tried.
HEADROOM = 4.0
EXTERNAL_DATA = "session.model_external_initializers_file_folder_path"


@dataclass(frozen=True)
class Peak:
    """How large a float16 value of a graph got, and the node that makes it."""

    graph: str
    node: str
    largest: float

    @property
    def fits(self) -> bool:
        """Whether float16 has it, with room for what was not tried."""
        return isfinite(self.largest) and self.largest * HEADROOM <= HALF_MAX


class Stages(Protocol):
    """The written stages of one bundle."""

    def encode_image(self, pixel_values: np.ndarray) -> np.ndarray:
        """(1, 3, H, H) to image_embeds (1, N, D)."""

    def prefill(self, rows: np.ndarray) -> np.ndarray | None:
        """Run (S, D) rows through a separate prefill into the kv cache: (1, V) logits of the last; None without one."""

    def decode(self, rows: np.ndarray, past: int) -> np.ndarray:
        """Run (S, D) rows behind the first `past` of the kv cache: (1, V) logits of the last."""

    def caches(self, rows: int) -> dict[tuple[int, str], np.ndarray]:
        """The first rows of the kv cache by layer and part, (1, kv heads, rows, head_dim), of the written weights."""

    def unrounded(self, pixel_values: np.ndarray | None, rows: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
        """Outputs by stage and name of what rounds in operators of its own, without that (`unrounded.py`).

        Args:
            pixel_values: (1, 3, H, H), None for a text-only model.
            rows: (S, D), of the prefill.
        """

    def peaks(self) -> list[Peak]:
        """How large float16 values got in what has run, a graph each; none where arithmetic is float32."""


class CpuStages:
    """Of a `gqa` bundle.

    Args:
        directory: holds the ONNX files.
        config: the model.
        precisions: stage to precision.
        cache_rows: of the kv cache.
    """

    def __init__(self, directory: Path, config: ModelConfig, precisions: Mapping[str, str], cache_rows: int):
        self._directory, self._config, self._precisions = directory, config, precisions
        ((self._decoder, _),) = self._graphs(stages.DECODER)
        shape = (1, config.num_key_value_heads, cache_rows, config.head_dim)
        dtype = {one.name: np.int8 if "int8" in one.type else np.float32 for one in self._decoder.get_inputs()}
        parts = [(layer, part) for layer in range(config.num_hidden_layers) for part in stages.CACHE_PARTS]
        self._buffers = {key: np.zeros(shape, dtype[stages.past(*key)]) for key in parts}

    def _graphs(self, stage: str, rounds: bool = True) -> Iterator[tuple[ort.InferenceSession | OpenVinoGraph, range]]:
        name, alike = self._precisions[stage], Alike()
        for part, layers in stages.parts(stage, self._config.num_hidden_layers, name).items():
            path = self._directory / stages.onnx_file(part)
            packs = name in INT4  # whose kernels read packed weights alone
            if name != INT8_AMX:
                yield open_session(path, packs), layers
            else:
                yield open_stage(path, stage, alike) if rounds else open_unrounded(path), layers

    def encode_image(self, pixel_values: np.ndarray) -> np.ndarray:
        """See `Stages`."""
        return self._encoded(pixel_values)

    def _encoded(self, pixel_values: np.ndarray, rounds: bool = True) -> np.ndarray:
        ((vision, _),) = self._graphs(stages.VISION, rounds)
        return vision.run([stages.IMAGE_EMBEDS], {stages.PIXEL_VALUES: pixel_values})[0].copy()

    def prefill(self, rows: np.ndarray) -> np.ndarray | None:
        """See `Stages`: through graphs that hand rows on."""
        if stages.PREFILL not in self._precisions:
            return None
        logits, new = self._prefilled(rows)
        for key, quantized in new.items():
            heads = quantized.reshape(len(rows), self._config.num_key_value_heads, -1)
            self._buffers[key][0, :, : len(rows)] = heads.swapaxes(0, 1)
        return logits

    def _prefilled(self, rows: np.ndarray, rounds: bool = True) -> tuple[np.ndarray, dict[tuple[int, str], np.ndarray]]:
        """Logits of the last row, and the rows for the kv cache."""
        name, values, found = stages.INPUTS_EMBEDS, rows[None], {}
        nothing = np.zeros((1, self._config.num_key_value_heads, 0, self._config.head_dim), np.int8)
        for session, layers in self._graphs(stages.PREFILL, rounds):
            keys = [(layer, part) for layer in layers for part in stages.CACHE_PARTS]
            feed = {stages.past(*key): nothing for key in keys}
            ends = self._config.num_hidden_layers - 1 in layers
            wanted = [stages.LOGITS if ends else stages.NEXT_HIDDEN_STATES, *(stages.new_rows(*key) for key in keys)]
            # OpenVINO's are the graph's own.
            values, *new = (
                one.copy()
                for one in session.run(wanted, feed | {name: values, stages.PAST_LENGTH: np.zeros(1, np.int64)})
            )
            name = stages.HIDDEN_STATES
            found |= dict(zip(keys, new, strict=True))
        return values, found

    def decode(self, rows: np.ndarray, past: int) -> np.ndarray:
        """See `Stages`: on a kv cache that is bound in place exactly as a runtime does it."""
        total = past + len(rows)
        binding = self._decoder.io_binding()
        binding.bind_cpu_input(stages.INPUTS_EMBEDS, rows[None])
        binding.bind_cpu_input(stages.SEQLENS_K, np.array([total - 1], np.int32))
        binding.bind_cpu_input(stages.TOTAL_SEQUENCE_LENGTH, np.array(total, np.int32))
        binding.bind_output(stages.LOGITS)
        for key, buffer in self._buffers.items():
            value = ort.OrtValue.ortvalue_from_numpy(buffer)
            binding.bind_ortvalue_input(stages.past(*key), value)
            binding.bind_ortvalue_output(stages.present(*key), value)
        self._decoder.run_with_iobinding(binding)
        return binding.get_outputs()[0].numpy()

    def caches(self, rows: int) -> dict[tuple[int, str], np.ndarray]:
        """See `Stages`: an int8 cache's rows are dequantised."""
        graph = WrittenGraph(self._directory / stages.onnx_file(stages.DECODER))
        found = {}
        for (layer, part), buffer in self._buffers.items():
            values = buffer[:, :, :rows].astype(np.float32)
            if buffer.dtype == np.int8:
                steps = graph.array(f"cache.{layer}.{part}").reshape(1, values.shape[1], 1, -1)
                values = values * steps
            found[layer, part] = values
        return found

    def unrounded(self, pixel_values: np.ndarray | None, rows: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
        """See `Stages`: of the graphs that OpenVINO runs."""
        found = {}
        if self._precisions.get(stages.VISION) == INT8_AMX and pixel_values is not None:
            found[stages.VISION] = {stages.IMAGE_EMBEDS: self._encoded(pixel_values, rounds=False)}
        if self._precisions.get(stages.PREFILL) == INT8_AMX:
            found[stages.PREFILL] = {stages.FIRST_LOGITS: self._prefilled(rows, rounds=False)[0]}
        return found

    def peaks(self) -> list[Peak]:
        """See `Stages`."""
        return []


class NpuStages:
    """Of a `delta` bundle before it is compiled.

    Args:
        directory: holds the ONNX files.
        config: the model.
        parts: pieces of the decoder and their layers.
        cache_rows: of the kv cache.
    """

    def __init__(self, directory: Path, config: ModelConfig, parts: Mapping[str, range], cache_rows: int):
        self._directory = directory
        graphs = {rows: [self._run(stages.chunk_graph(part, rows)) for part in parts] for rows in (PROMPT_ROWS, 1)}
        self._decoder = ChunkedDecoder(config, cache_rows, graphs, list(parts.values()))

    def _run(self, name: str) -> Run:
        return by_name(open_session(self._directory / stages.onnx_file(name)))

    def encode_image(self, pixel_values: np.ndarray) -> np.ndarray:
        """See `Stages`."""
        return self._run(stages.VISION)({stages.PIXEL_VALUES: pixel_values})[stages.IMAGE_EMBEDS]

    def prefill(self, rows: np.ndarray) -> None:
        """See `Stages`: the decoder's own graphs run prompts."""

    def decode(self, rows: np.ndarray, past: int) -> np.ndarray:
        """See `Stages`."""
        return self._decoder.decode(rows, past)[None]

    def caches(self, rows: int) -> dict[tuple[int, str], np.ndarray]:
        """See `Stages`: weights are in steps of the cache, so that a value is a whole number."""
        found = {}
        for (layer, part), buffer in self._decoder.buffers.items():
            values = buffer.swapaxes(2, 3) if part == "key" else buffer
            found[layer, part] = values[:, :, :rows].astype(np.float32) - 128
        return found

    def unrounded(self, pixel_values: np.ndarray | None, rows: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
        """See `Stages`: compared with its rounding alone."""
        return {}

    def peaks(self) -> list[Peak]:
        """See `Stages`."""
        return []


def by_name(session: ort.InferenceSession) -> Run:
    """What runs a session: inputs by name to outputs by name."""
    names = [output.name for output in session.get_outputs()]
    return lambda feed: dict(zip(names, session.run(names, feed), strict=True))


def open_unrounded(path: Path) -> ort.InferenceSession:
    """`open_session` of a graph without its rounding of values (`unrounded.py`)."""
    model = onnx.load(str(path), load_external_data=False)
    without_rounding(model)
    options = _options()
    options.add_session_config_entry(EXTERNAL_DATA, str(path.parent))
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def open_session(path: Path, packs: bool = False) -> ort.InferenceSession:
    """A session that leaves weights as they are on disk, mapped: a model larger than memory can be checked too.

    Args:
        path: of the ONNX file.
        packs: whether weights are packed for the kernels nevertheless, in memory.
    """
    return ort.InferenceSession(str(path), _options(packs), providers=["CPUExecutionProvider"])


def _options(packs: bool = False) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if not packs:
        options.add_session_config_entry("session.disable_prepacking", "1")
    options.enable_mem_pattern = False  # it would ask for all weights' size at once, mapped or not
    # Constant folding would turn float16 weights, or codes, into float32 ones in memory.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.execution_order = ort.ExecutionOrder.PRIORITY_BASED  # as written: weights are decoded late
    return options
