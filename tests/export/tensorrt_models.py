"""Small models with random weights, in PyTorch and as TensorRT's graphs of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch

from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.checkpoint.tensors import random_tensors
from mobilevlm.engines import stages
from mobilevlm.engines.tensorrt.bucketed_decoder import BucketedDecoder
from mobilevlm.export.backends.tensorrt.run import WatchedGraph
from mobilevlm.export.backends.tensorrt.write import OPSET, save
from mobilevlm.export.calibration.decoder_activations import Observed
from mobilevlm.export.lowerings import tensorrt_delta
from mobilevlm.export.precisions import precision
from mobilevlm.export.precisions.a16w4 import HEADS
from mobilevlm.export.split.decoder import write_decoder, write_likeliest
from mobilevlm.export.split.graph import Graph
from mobilevlm.export.split.kv_cache import CacheForm
from mobilevlm.export.weights.equalize import Balanced
from mobilevlm.export.weights.smoothquant import Smoothed
from mobilevlm.model.model import empty_model, expected_shapes
from tests.export.test_architectures import MODEL

ROWS = 600  # of the cache: buckets of 256, 512 and 600


class Model:
    """One of the small ones; weights are values that float16 has, but for those that balancing moves."""

    def __init__(self, change: dict):
        self.config: ModelConfig = replace(MODEL, vision=None, mm_vision_tower=None, **change)
        drawn = random_tensors(expected_shapes(self.config), seed=4)
        self.tensors = {name: one.half().float() for name, one in drawn.items()}
        self.embeds = torch.randn(1, ROWS, self.config.hidden_size, generator=torch.Generator().manual_seed(6))
        self.embeds = self.embeds.half().float()

    def logits(self, tensors: dict[str, torch.Tensor] | None = None) -> np.ndarray:
        """(ROWS, V) after each row, by transformers."""
        tensors = tensors or self.tensors
        model = empty_model(self.config).model
        own = {name.removeprefix("model."): one for name, one in tensors.items() if name.startswith("model.")}
        model.load_state_dict(own, assign=True)
        head = tensors.get("lm_head.weight", tensors["model.embed_tokens.weight"])
        with torch.inference_mode():
            return (model(inputs_embeds=self.embeds).last_hidden_state[0] @ head.T).numpy()

    def write(self, name: str, directory: Path, pieces: int = 1) -> Graphs:
        """The decoder in a precision; codes are chosen on the rows that it is run on."""
        even = Balanced(self.tensors, self.config)
        smoothed = Smoothed(even) if name == "int8" else None
        observed = Observed(self.config, even, [self.embeds], smoothed=smoothed)
        parts = stages.decoder_parts(self.config.num_hidden_layers, pieces)
        options = {
            "tensors": smoothed or (even if name == "int4" else self.tensors),
            "precision": precision(f"tensorrt_{name}"),
            "dtype": np.float32 if name == "fp32" else np.float16,
            "magnitudes": lambda layer: None if layer in HEADS else observed.magnitudes(layer),
        }
        opset = precision(f"tensorrt_{name}").FACTS.opset or OPSET
        for part, layers in parts.items():
            options |= {"name": part, "weights_path": directory / stages.weights_file(part)}
            with Graph(**options, opset=opset, moments=observed.moments) as graph:
                write_decoder(graph, self.config, tensorrt_delta, CacheForm(ROWS), layers)
                if layers.stop == self.config.num_hidden_layers:
                    write_likeliest(graph, self.config)
                save(graph, directory, part)
        return Graphs(self, directory, parts)


class Graphs:
    """What was written."""

    def __init__(self, model: Model, directory: Path, parts: dict[str, range]):
        self.model, self.directory, self.parts = model, directory, parts

    def path(self, part: str) -> Path:
        return self.directory / stages.onnx_file(part)

    def proto(self, part: str = "decoder.0") -> onnx.ModelProto:
        model = onnx.load(str(self.path(part)), load_external_data=False)
        return onnx.shape_inference.infer_shapes(model, data_prop=True)

    def decoder(self) -> BucketedDecoder:
        """One that runs them; `outputs` are the last graph's of its last call."""
        runs = [WatchedGraph(self.path(part)).run for part in self.parts]
        last, outputs = runs[-1], {}
        runs[-1] = lambda feed: outputs.update(last(feed)) or outputs
        decoder = BucketedDecoder(self.model.config, runs, list(self.parts.values()), ROWS)
        decoder.outputs = outputs
        return decoder

    def weights(self) -> dict[str, np.ndarray]:
        """By name."""
        return {
            tensor.name: onnx.numpy_helper.to_array(tensor, str(self.directory))
            for part in self.parts
            for tensor in onnx.load(str(self.path(part)), load_external_data=False).graph.initializer
        }
