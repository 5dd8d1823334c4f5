"""A bundle for TensorRT on this CPU, compiled or not: its graphs on ONNX Runtime, with float32 arithmetic.

Weights and int8 values are rounded as on the device, what is float16 there only in its weights. It is slow, and for
comparing: what a precision costs can be scored before there is a board.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime as ort

from mobilevlm.commands import localized
from mobilevlm.engines import stages
from mobilevlm.engines.bundle import Bundle, BundleError
from mobilevlm.engines.chunks import Run
from mobilevlm.engines.graph_shapes import Tensors, bucket_tensors, vision_tensors
from mobilevlm.engines.tensorrt.bucketed_decoder import BucketedDecoder

from ..embeddings import EmbeddingBlock
from ..ort.failures import failures_named
from ..ort.graph_files import require_fitting

# Called after each call of a graph: with its name, its inputs and its outputs, which the next call may overwrite.
Watch = Callable[[str, dict[str, np.ndarray], dict[str, np.ndarray]], object]


class GraphRunner:
    """Graphs for TensorRT on ONNX Runtime; see `runner.Runner`.

    Args:
        bundle: whose graphs they are.
        watch: called after every call of a graph; None for no one.

    Attributes:
        max_context: tokens that the kv cache holds.
        prompts_by: the decoder, which runs prompts itself.
        same_arithmetic: what a GPU rounds to float16 stays float32 here.

    Raises:
        BundleError: the graphs are not there, as a board does without them.
    """

    prompts_by = stages.DECODER
    same_arithmetic = False

    def __init__(self, bundle: Bundle, watch: Watch | None = None):
        self._watch = watch
        self._bundle, self.max_context = bundle, bundle.manifest.max_context
        parts = {part: range(*ends) for part, ends in bundle.manifest.parts.items()}
        if bundle.has_vision:
            self._vision = self._open(stages.VISION, vision_tensors(bundle.config, bundle.manifest.num_image_tokens))
        runs = [self._open(part, bucket_tensors(bundle.config, layers)) for part, layers in parts.items()]
        self._decoder = BucketedDecoder(bundle.config, runs, list(parts.values()), self.max_context)

    def _open(self, graph: str, tensors: tuple[Tensors, Tensors]) -> Run:
        name = stages.float32_file(graph)
        path = self._bundle.path(name)
        if not path.is_file():
            raise BundleError(
                f"{path} is missing: a board does without, a CPU does not. Copy all of the bundle, or build it again: "
                f"{localized(self._bundle.manifest.command)}"
            )
        require_fitting(self._bundle, name, tensors)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        # Folding would keep a float32 copy of every weight.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.execution_order = ort.ExecutionOrder.PRIORITY_BASED  # as written: weights are decoded late
        with failures_named(self._bundle, graph):
            session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]

        def run(feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            with failures_named(self._bundle, graph):
                outputs = dict(zip(names, session.run(names, feed), strict=True))
            if self._watch is not None:
                self._watch(graph, feed, outputs)
            return outputs

        return run

    def encode_image(self, pixel_values: np.ndarray) -> np.ndarray:
        """Runs the vision stage: (1, 3, H, H) float32 to (N, D) float32."""
        return self._vision({stages.PIXEL_VALUES: pixel_values})[stages.IMAGE_EMBEDS][0]

    def decode(self, inputs_embeds: EmbeddingBlock, past: int) -> np.ndarray:
        """Runs tokens that follow the first `past` of the kv cache; see `runner.Runner`.

        Args:
            inputs_embeds: (S, D) float32.
            past: tokens of the kv cache that stay.
        """
        return self._decoder.decode(np.asarray(inputs_embeds, np.float32), past)[0]

    def prefill(self, inputs_embeds: EmbeddingBlock, past: int) -> np.ndarray:
        """Runs `decode`: there is no separate prefill.

        Args:
            inputs_embeds: (S, D) float32.
            past: tokens of the kv cache that stay.
        """
        return self.decode(inputs_embeds, past)

    def read_cache(self, start: int, stop: int) -> np.ndarray:
        """Copies rows out of the kv cache; see `runner.Runner`.

        Args:
            start: index of the first token.
            stop: index behind the last one.
        """
        return self._decoder.read_cache(start, stop)

    def write_cache(self, start: int, rows: np.ndarray) -> None:
        """Copies rows into the kv cache; see `runner.Runner`.

        Args:
            start: index of their first token.
            rows: what `read_cache` returned.
        """
        self._decoder.write_cache(start, rows)

    def remedy(self) -> str:
        """Returns what to do about graphs that compute something else here: no engine takes part."""
        return (
            "Copy its .onnx and .weights files again from where it was built, or build it again: "
            f"{localized(self._bundle.manifest.command)}"
        )

    def close(self) -> None:
        """Nothing to do: graphs go with the last reference to them."""
