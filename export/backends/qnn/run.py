"""Runs the stages of a bundle for an NPU on ONNX Runtime's CPU, to verify them before they are compiled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.engines import stages
from mobilevlm.engines.chunks import PROMPT_ROWS, ChunkedDecoder, Run
from mobilevlm.override import override

from ...verification.onnx_session import by_name, open_session
from ...verification.stages import Peak, Stages


class QnnStages(Stages):
    """Runs the stages of a bundle for an NPU before they are compiled.

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

    @override
    def encode_image(self, pixel_values: np.ndarray) -> np.ndarray:
        """See `Stages`."""
        return self._run(stages.VISION)({stages.PIXEL_VALUES: pixel_values})[stages.IMAGE_EMBEDS]

    @override
    def prefill(self, rows: np.ndarray) -> None:
        """See `Stages`: the decoder's own graphs run prompts."""

    @override
    def decode(self, rows: np.ndarray, past: int) -> np.ndarray:
        """See `Stages`."""
        return self._decoder.decode(rows, past)[None]

    @override
    def caches(self, rows: int) -> dict[tuple[int, str], np.ndarray]:
        """See `Stages`: weights are in steps of the cache, so that a value is a whole number."""
        found = {}
        for (layer, part), buffer in self._decoder.buffers.items():
            values = buffer.swapaxes(2, 3) if part == "key" else buffer
            found[layer, part] = values[:, :, :rows].astype(np.float32) - 128
        return found

    @override
    def unrounded(self, pixel_values: np.ndarray | None, rows: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
        """See `Stages`: compared with its rounding alone."""
        return {}

    @override
    def peaks(self) -> list[Peak]:
        """See `Stages`."""
        return []
