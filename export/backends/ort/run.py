"""Runs the stages of a bundle for a CPU, as a device's runtime will, to verify them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnxruntime as ort

from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.engines import stages
from mobilevlm.engines.ort.openvino import OpenVinoGraph, SharedModels, open_stage
from mobilevlm.engines.stage_form import OPENVINO
from mobilevlm.override import override

from ...precisions import precision
from ...verification.onnx_session import open_session, open_unrounded
from ...verification.stages import Peak, Stages
from ...verification.written_weights import WrittenGraph


class OrtStages(Stages):
    """Runs the stages of a bundle for ONNX Runtime on a CPU.

    Args:
        directory: holds the ONNX files.
        config: the model.
        precisions: stage to precision.
        cache_rows: of the kv cache.
    """

    def __init__(self, directory: Path, config: ModelConfig, precisions: Mapping[str, str], cache_rows: int):
        self._directory, self._config = directory, config
        self._facts = {stage: precision(name).FACTS for stage, name in precisions.items()}
        # OpenVINO runs no decoder: ONNX Runtime does.
        packs = self._facts[stages.DECODER].packs_weights
        self._decoder = open_session(directory / stages.onnx_file(stages.DECODER), packs)
        shape = (1, config.num_key_value_heads, cache_rows, config.head_dim)
        dtype = {one.name: np.int8 if "int8" in one.type else np.float32 for one in self._decoder.get_inputs()}
        parts = [(layer, part) for layer in range(config.num_hidden_layers) for part in stages.CACHE_PARTS]
        self._buffers = {key: np.zeros(shape, dtype[stages.past(*key)]) for key in parts}

    def _graphs(self, stage: str, rounds: bool = True) -> Iterator[tuple[ort.InferenceSession | OpenVinoGraph, range]]:
        facts, shared = self._facts[stage], SharedModels()
        layers_per_file = facts.prefill.layers if stage == stages.PREFILL and facts.prefill else 0
        for part, layers in stages.parts(stage, self._config.num_hidden_layers, layers_per_file).items():
            path = self._directory / stages.onnx_file(part)
            if facts.form.runtime != OPENVINO:
                yield open_session(path, facts.packs_weights), layers
            else:
                yield open_stage(path, stage, shared) if rounds else open_unrounded(path), layers

    @override
    def encode_image(self, pixel_values: np.ndarray) -> np.ndarray:
        """See `Stages`."""
        return self._encoded(pixel_values)

    def _encoded(self, pixel_values: np.ndarray, rounds: bool = True) -> np.ndarray:
        ((vision, _),) = self._graphs(stages.VISION, rounds)
        return vision.run([stages.IMAGE_EMBEDS], {stages.PIXEL_VALUES: pixel_values})[0].copy()

    @override
    def prefill(self, rows: np.ndarray) -> np.ndarray | None:
        """See `Stages`: through graphs that hand rows on."""
        if stages.PREFILL not in self._facts:
            return None
        logits, new = self._prefilled(rows)
        for key, quantized in new.items():
            heads = quantized.reshape(len(rows), self._config.num_key_value_heads, -1)
            self._buffers[key][0, :, : len(rows)] = heads.swapaxes(0, 1)
        return logits

    def _prefilled(self, rows: np.ndarray, rounds: bool = True) -> tuple[np.ndarray, dict[tuple[int, str], np.ndarray]]:
        """Logits of the last row, and the rows for the kv cache."""
        name, values = stages.INPUTS_EMBEDS, rows[None]
        found: dict[tuple[int, str], np.ndarray] = {}
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

    @override
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

    @override
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

    @override
    def unrounded(self, pixel_values: np.ndarray | None, rows: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
        """See `Stages`: of the graphs that OpenVINO runs."""
        found = {}
        quantizing = [stage for stage, facts in self._facts.items() if facts.has_qdq]
        if stages.VISION in quantizing and pixel_values is not None:
            found[stages.VISION] = {stages.IMAGE_EMBEDS: self._encoded(pixel_values, rounds=False)}
        if stages.PREFILL in quantizing:
            found[stages.PREFILL] = {stages.FIRST_LOGITS: self._prefilled(rows, rounds=False)[0]}
        return found

    @override
    def peaks(self) -> list[Peak]:
        """See `Stages`."""
        return []
