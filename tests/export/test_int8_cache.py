"""The int8 kv cache, as a decoder keeps it and as a prefill hands its rows out, against transformers' float32 one."""

from dataclasses import replace
from itertools import product

import numpy as np
import onnxruntime as ort
import pytest
import torch

from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.checkpoint.tensors import random_tensors
from mobilevlm.engines import stages
from mobilevlm.engines.ort.openvino import SharedModels, open_stage
from mobilevlm.engines.stages import CACHE_PARTS
from mobilevlm.export.calibration.decoder_activations import Observed
from mobilevlm.export.lowerings import ort as ort_lowering
from mobilevlm.export.lowerings import ort_openvino, ort_prefill
from mobilevlm.export.precisions import precision
from mobilevlm.export.split.decoder import write_decoder
from mobilevlm.export.split.graph import Graph
from mobilevlm.export.split.kv_cache import CacheForm
from mobilevlm.model.model import empty_model, expected_shapes
from mobilevlm.runtime.kv_cache import write_rows
from tests.export.test_architectures import CASES, MODEL

ROWS, FIRST, SECOND = 48, 21, 13
OPENVINO = "prefill for OpenVINO"
WAYS = [
    *product(("decoder", "prefill"), repeat=2),
    *((OPENVINO, way) for way in ("decoder", OPENVINO)),
    *((f"{OPENVINO} on OpenVINO", way) for way in ("decoder", f"{OPENVINO} on OpenVINO")),
]
NAMES = ("plain", "grouped heads", "heads of 80", "other rope and epsilon", "tied embeddings")


class Decoder:
    """A small one with random weights: in PyTorch, and in ONNX with float32 weights, so that only the cache differs."""

    def __init__(self, config: ModelConfig, directory):
        self.config = config
        tensors = {name: value.float() for name, value in random_tensors(expected_shapes(config), seed=4).items()}
        tensors["model.layers.0.self_attn.k_proj.weight"][3] *= 12  # one channel far larger, as keys have them
        self.model = empty_model(config).model
        own = {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
        self.model.load_state_dict(own, assign=True)
        self.head = tensors.get("lm_head.weight", tensors["model.embed_tokens.weight"])
        self.embeds = torch.randn(1, FIRST + SECOND, config.hidden_size, generator=torch.Generator().manual_seed(6))
        observed = Observed(config, tensors, [self.embeds])
        self.cache = CacheForm(ROWS, lambda layer, part: observed.cache_scales(layer, part).numpy())
        self.sessions = {}
        for name, lowering in (("decoder", ort_lowering), ("prefill", ort_prefill), (OPENVINO, ort_openvino)):
            path = directory / f"{name}.onnx"
            with Graph(name, tensors, precision("fp32"), directory / f"{name}.weights") as graph:
                write_decoder(graph, config, lowering, self.cache, range(config.num_hidden_layers))
                graph.save(path)
            self.sessions[name] = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.sessions[f"{OPENVINO} on OpenVINO"] = open_stage(path, stages.PREFILL, SharedModels())

    def reference(self) -> tuple[np.ndarray, dict]:
        """Logits after the first rows and after all; the cache of all, (1, KV, S, Dh)."""
        with torch.inference_mode():
            out = self.model(inputs_embeds=self.embeds, use_cache=True)
            logits = out.last_hidden_state[0, [FIRST - 1, -1]] @ self.head.T
        layers = enumerate(out.past_key_values.layers)
        return logits.numpy(), {
            (n, part): getattr(layer, f"{part}s").numpy() for n, layer in layers for part in CACHE_PARTS
        }

    def empty(self) -> dict:
        shape = (1, self.config.num_key_value_heads, ROWS, self.config.head_dim)
        return {key: np.zeros(shape, np.int8) for key in product(range(self.config.num_hidden_layers), CACHE_PARTS)}

    def run(self, way: str, cache: dict, embeds: np.ndarray, past: int) -> np.ndarray:
        session = self.sessions[way]
        feed = {stages.INPUTS_EMBEDS: embeds}
        if way != "decoder":
            feed |= {stages.past(*key): buffer[:, :, :past] for key, buffer in cache.items()}
            feed |= {stages.PAST_LENGTH: np.array([past])}
            logits, *rows = session.run([stages.LOGITS, *(stages.new_rows(*key) for key in cache)], feed)
            for buffer, new in zip(cache.values(), rows, strict=True):
                write_rows(buffer, past, new)
            return logits[0]
        total = past + embeds.shape[1]
        feed |= {stages.past(*key): buffer for key, buffer in cache.items()}
        feed |= {stages.SEQLENS_K: np.array([total - 1], np.int32)}
        feed |= {stages.TOTAL_SEQUENCE_LENGTH: np.array(total, np.int32)}
        logits, *after = session.run([stages.LOGITS, *(stages.present(*key) for key in cache)], feed)
        cache.update(zip(list(cache), after, strict=True))
        return logits[0]


@pytest.fixture(scope="module", params=NAMES)
def decoder(request, tmp_path_factory):
    change = {} if request.param == "plain" else CASES[request.param]
    return Decoder(replace(MODEL, vision=None, mm_vision_tower=None, **change), tmp_path_factory.mktemp("decoder"))


@pytest.mark.parametrize("ways", WAYS, ids=" then ".join)
def test_logits_and_rows_are_those_of_the_float32_cache(decoder, ways):
    """A fresh prompt and rows behind it, whoever runs which; and what is kept are the rows' codes."""
    logits, expected = decoder.reference()
    cache, embeds = decoder.empty(), decoder.embeds.numpy()
    for way, rows, past, wanted in zip(ways, (slice(FIRST), slice(FIRST, None)), (0, FIRST), logits, strict=True):
        got = decoder.run(way, cache, embeds[:, rows], past)
        assert np.abs(got - wanted).max() < 0.02 * np.abs(wanted).max()
    for (layer, part), codes in cache.items():
        steps = decoder.cache.scales(layer, part).reshape(1, codes.shape[1], 1, -1)
        off = np.abs(codes[:, :, : FIRST + SECOND] * steps - expected[layer, part])
        # Rounding is half a code at most; later layers read what comes of it, too.
        assert (off <= 0.505 * steps).all() if layer == 0 else (off / steps).mean() < 0.5
        assert 80 < np.abs(codes).max() <= 127
        assert not codes[:, :, FIRST + SECOND :].any()


def test_the_large_channel_has_a_step_of_its_own(decoder):
    steps = decoder.cache.scales(0, "key")
    assert steps[3] > 5 * np.median(steps)
