"""The decoder of the `qnn` lowering against transformers: fixed chunks, a cache that is only read, pieces."""

from dataclasses import replace

import numpy as np
import onnxruntime as ort
import pytest
import torch

from mobilevlm.checkpoint.tensors import random_tensors
from mobilevlm.engines import stages
from mobilevlm.engines.chunks import ChunkedDecoder, chunks
from mobilevlm.export.backends.qnn.quantize_stage import OPSET
from mobilevlm.export.calibration.decoder_activations import Observed
from mobilevlm.export.lowerings import qnn as qnn_lowering
from mobilevlm.export.precisions import precision
from mobilevlm.export.split.decoder import write_decoder
from mobilevlm.export.split.graph import Graph
from mobilevlm.export.split.kv_cache import CacheForm
from mobilevlm.export.weights.kv_cache_scales import CacheScaled
from mobilevlm.model.model import empty_model, expected_shapes
from tests.export.test_architectures import CASES, MODEL

ROWS, CHUNK = 48, 8
NAMES = ("plain", "grouped heads", "heads of 80", "heads wider than the model", "other rope and epsilon")
NAMES += ("tied embeddings",)
# A prompt and what is said behind it: around every boundary of a chunk, alone and with a past.
TALKS = [(1,), (7, 1, 1), (8, 1), (9, 2), (15, 1), (16, 8), (17, 7, 9), (23, 1, 24), (1, 1, 1), (48,)]


class Model:
    """A small one with random weights, in PyTorch and as pieces of ONNX in float32."""

    def __init__(self, change: dict, pieces: int, directory):
        self.config = config = replace(MODEL, vision=None, mm_vision_tower=None, **change)
        self.tensors = {name: one.float() for name, one in random_tensors(expected_shapes(config), seed=4).items()}
        self.model = empty_model(config).model
        own = {name.removeprefix("model."): one for name, one in self.tensors.items() if name.startswith("model.")}
        self.model.load_state_dict(own, assign=True)
        self.head = self.tensors.get("lm_head.weight", self.tensors["model.embed_tokens.weight"])
        self.embeds = torch.randn(1, ROWS, config.hidden_size, generator=torch.Generator().manual_seed(6))
        self.directory, self.parts = directory, stages.decoder_parts(config.num_hidden_layers, pieces)

    def decoder(self, tensors, dtype=np.float32) -> ChunkedDecoder:
        graphs = [self._graph(tensors, part, layers) for part, layers in self.parts.items()]
        return ChunkedDecoder(self.config, ROWS, {CHUNK: graphs, 1: graphs}, list(self.parts.values()), dtype)

    def _graph(self, tensors, part: str, layers: range):
        path = self.directory / f"{part}.onnx"
        weights = self.directory / f"{part}.weights"
        with Graph(part, tensors, precision("fp32"), weights, opset=OPSET) as graph:
            write_decoder(graph, self.config, qnn_lowering, CacheForm(ROWS), layers)
            graph.save(path)
        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return lambda feed: dict(zip(names, session.run(names, feed), strict=True))

    def reference(self, rows: int) -> np.ndarray:
        with torch.inference_mode():
            hidden = self.model(inputs_embeds=self.embeds[:, :rows]).last_hidden_state[0, -1]
        return (hidden @ self.head.T).numpy()


@pytest.fixture(scope="module", params=[(name, 1) for name in NAMES] + [("grouped heads", 2)], ids=str)
def model(request, tmp_path_factory):
    name, pieces = request.param
    return Model({} if name == "plain" else CASES[name], pieces, tmp_path_factory.mktemp("qnn"))


@pytest.mark.parametrize("coded", [False, True], ids=["plain weights", "weights in steps of the cache"])
def test_every_chunk_boundary_gives_transformers_logits(model, coded):
    tensors = model.tensors
    if coded:
        tensors = CacheScaled(tensors, model.config, Observed(model.config, tensors, [model.embeds]).cache_scales)
    decoder, embeds = model.decoder(tensors), model.embeds[0].numpy()
    for talk in TALKS:
        past = 0
        for rows in talk:
            logits = decoder.decode(embeds[past : past + rows], past)
            past += rows
            wanted = model.reference(past)
            assert np.abs(logits - wanted).max() < 2e-5 * max(1, np.abs(wanted).max()), (talk, past)


def test_what_lies_behind_the_past_is_never_seen(model):
    """As after a shorter question: rows of an earlier conversation are still in the buffers."""
    decoder, embeds = model.decoder(model.tensors), model.embeds[0].numpy()
    for buffer in decoder.buffers.values():
        buffer[...] = 30.0
    assert np.abs(decoder.decode(embeds[:11], 0) - model.reference(11)).max() < 1e-4


def test_the_cache_is_in_steps_of_its_own(model):
    """Keys and values that come out of coded weights, times their steps, are transformers' own."""
    observed = Observed(model.config, model.tensors, [model.embeds])
    decoder = model.decoder(CacheScaled(model.tensors, model.config, observed.cache_scales))
    decoder.decode(model.embeds[0].numpy(), 0)
    with torch.inference_mode():
        layers = model.model(inputs_embeds=model.embeds, use_cache=True).past_key_values.layers
    for (layer, part), buffer in decoder.buffers.items():
        steps = observed.cache_scales(layer, part).view(1, -1, 1, model.config.head_dim).numpy()
        rows = buffer.swapaxes(2, 3) if part == "key" else buffer
        wanted = getattr(layers[layer], f"{part}s").numpy()
        assert np.abs(rows * steps - wanted).max() < 1e-5
        assert 90 < np.abs(rows).max() < 128  # what an 8-bit code can say, all of it


def test_pieces_of_a_prompt():
    for rows in range(1, 40):
        cut = list(chunks(rows, 8))
        assert [row for piece in cut for row in range(rows)[piece]] == list(range(rows))
        assert all(piece.stop - piece.start == 8 for piece in cut[1:]) and 1 <= cut[0].stop <= 8
