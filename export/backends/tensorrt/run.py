"""Runs the graphs of a TensorRT bundle with float32 arithmetic on ONNX Runtime, to verify them before they compile."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.engines import stages
from mobilevlm.engines.chunks import Run
from mobilevlm.engines.targets import TENSORRT
from mobilevlm.engines.tensorrt.bucketed_decoder import BucketedDecoder
from mobilevlm.override import override
from mobilevlm.pages import Pages

from ...precisions import facts_of
from ...verification.onnx_session import by_name, open_session, open_unrounded
from ...verification.stages import Peak, Stages
from ...verification.tensor_ranges import Ranges
from .float32_twin import external_files, half_tensors

# What is behind the past in the cache, as after a longer talk: a graph that looks at it computes something else.
STALE = 30.0


class WatchedGraph:
    """A graph that runs, and records how large its float16 values get.

    Args:
        path: of the ONNX file; its weights, and its form with float32 arithmetic, are beside it.
    """

    def __init__(self, path: Path):
        model = onnx.load(str(path), load_external_data=False)
        self._name, self._half = path.stem, half_tensors(model)
        self._nodes = {name: node.name for node in model.graph.node for name in node.output}
        wide = path.with_name(stages.float32_file(path.stem))
        self._ranges = Ranges(wide, self._half) if self._half else None
        self._session = None if self._half else open_session(wide)
        self._weights = [Pages(path.with_name(name).resolve()) for name in external_files(model)]

    def run(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs the graph: inputs by name to outputs by name."""
        try:
            if self._ranges:
                return self._ranges.run(feed)
            return by_name(self._session)(feed)
        finally:
            for pages in self._weights:
                pages.release()

    def peak(self) -> Peak | None:
        """Returns the largest float16 value; None where nothing is float16."""
        if self._ranges is None:
            return None
        sizes = {name: max(-low, high) for name, (low, high) in self._ranges.found().items()}
        name = max(sizes, key=lambda one: np.nan_to_num(sizes[one], nan=np.inf))
        return Peak(self._name, self._nodes[name], sizes[name])


class TensorrtStages(Stages):
    """Runs the stages of a bundle for TensorRT before they are compiled.

    Args:
        directory: holds the ONNX files.
        config: the model.
        precisions: stage to precision.
        parts: pieces of the decoder and their layers.
        cache_rows: of the kv cache.
    """

    def __init__(
        self,
        directory: Path,
        config: ModelConfig,
        precisions: Mapping[str, str],
        parts: Mapping[str, range],
        cache_rows: int,
    ):
        self._directory, self._config, self._precisions = directory, config, precisions
        self._parts, self._cache_rows = parts, cache_rows
        self._opened: list[WatchedGraph] = []
        runs = [self._open(part).run for part in parts]
        self._decoder = BucketedDecoder(config, runs, list(parts.values()), cache_rows)
        for cache in self._decoder.caches:
            cache[...] = STALE

    def _open(self, graph: str) -> WatchedGraph:
        self._opened.append(WatchedGraph(self._directory / stages.onnx_file(graph)))
        return self._opened[-1]

    @override
    def encode_image(self, pixel_values: np.ndarray) -> np.ndarray:
        """See `Stages`."""
        return self._open(stages.VISION).run({stages.PIXEL_VALUES: pixel_values})[stages.IMAGE_EMBEDS]

    @override
    def prefill(self, rows: np.ndarray) -> None:
        """See `Stages`: the decoder runs prompts itself."""

    @override
    def decode(self, rows: np.ndarray, past: int) -> np.ndarray:
        """See `Stages`."""
        return self._decoder.decode(rows, past)

    @override
    def caches(self, rows: int) -> dict[tuple[int, str], np.ndarray]:
        """See `Stages`."""
        keys = [(layer, part) for layer in range(self._config.num_hidden_layers) for part in stages.CACHE_PARTS]
        return {key: self._decoder.head_major(*key, rows) for key in keys}

    @override
    def unrounded(self, pixel_values: np.ndarray | None, rows: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
        """See `Stages`: of graphs with int8 values. A prompt of so many rows is one call of the decoder or several."""
        found, quantizing = {}, [one for one, name in self._precisions.items() if facts_of(TENSORRT, name).has_qdq]
        if stages.VISION in quantizing and pixel_values is not None:
            found[stages.VISION] = self._unrounded(stages.VISION)({stages.PIXEL_VALUES: pixel_values})
        if stages.DECODER in quantizing:
            runs = [self._unrounded(part) for part in self._parts]
            decoder = BucketedDecoder(self._config, runs, list(self._parts.values()), self._cache_rows)
            found[stages.DECODER] = {stages.FIRST_LOGITS: decoder.decode(rows, 0)}
        return found

    def _unrounded(self, graph: str) -> Run:
        return by_name(open_unrounded(self._directory / stages.float32_file(graph)))

    @override
    def peaks(self) -> list[Peak]:
        """See `Stages`."""
        return [peak for graph in self._opened if (peak := graph.peak())]
