"""TensorRT's vision graphs against PyTorch: every projector and tower, float16 and int8, and what int8 is offered."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from mobilevlm.checkpoint.checkpoint import open_checkpoint
from mobilevlm.engines import stages
from mobilevlm.errors import UserError
from mobilevlm.export.backends.tensorrt.run import WatchedGraph
from mobilevlm.export.backends.tensorrt.write import save
from mobilevlm.export.calibration.conversations import Conversations
from mobilevlm.export.calibration.vision_activations import vision_magnitudes
from mobilevlm.export.lowerings import tensorrt_delta
from mobilevlm.export.precisions import precision
from mobilevlm.export.split.graph import Graph
from mobilevlm.export.split.int8_error import Magnitudes
from mobilevlm.export.split.streamed_model import streamed_model
from mobilevlm.export.split.vision import write_vision
from mobilevlm.export.weights.equalize import Balanced
from tests.conftest import ROOT
from tests.export.test_architectures import MODEL, write_checkpoint
from tests.export.test_qdq import VISIONS, pictures, snr

SHOWN = Conversations(ROOT / "assets" / "no.json", [{"image": "shapes.png"}, {"image": ["table.jpg"]}])


@pytest.fixture(params=VISIONS)
def checkpoint(request, tmp_path):
    write_checkpoint(replace(MODEL, **VISIONS[request.param]), tmp_path / "model")
    return open_checkpoint(tmp_path / "model", None)


def written(checkpoint, name: str, directory) -> WatchedGraph:
    """The vision stage, which every version of TensorRT takes: `save` looks."""
    tensors, magnitudes = checkpoint.tensors, {}
    if name == "int8":
        tensors = Balanced(tensors, checkpoint.config)
        magnitudes = vision_magnitudes(checkpoint, tensors, SHOWN)
    options = {"dtype": np.float32 if name == "fp32" else np.float16, "magnitudes": magnitudes.get, "opset": 20}
    stage = stages.VISION
    weights = directory / stages.weights_file(stage)
    with Graph(stage, tensors, precision(f"tensorrt_{name}"), weights, **options) as graph:
        write_vision(graph, checkpoint.config, tensorrt_delta)
        save(graph, directory, stage)
    return WatchedGraph(directory / stages.onnx_file(stage))


@pytest.mark.parametrize("name, least", [("fp32", 90), ("fp16", 50), ("int8", 25)])
def test_every_projector_and_tower_sees_what_pytorch_sees(checkpoint, name, least, tmp_path):
    (pixel_values,) = pictures(checkpoint.config, 1)
    with torch.inference_mode():
        wanted = streamed_model(checkpoint).encode_images(torch.from_numpy(pixel_values))[0].numpy()
    graph = written(checkpoint, name, tmp_path)
    got = graph.run({stages.PIXEL_VALUES: pixel_values})[stages.IMAGE_EMBEDS][0]
    assert snr(got, wanted) > least
    peak = graph.peak()
    assert peak is None if name == "fp32" else peak.fits and peak.largest > 1
    if name == "int8":
        only_the_tower_is_int8(tmp_path / "vision.onnx")


def only_the_tower_is_int8(path) -> None:
    """Four places of a block, shared by those who read the same, and nothing of projector and patches."""
    graph = onnx.load(str(path), load_external_data=False).graph
    coded = [tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.INT8 and tensor.dims]
    assert coded and all(".encoder.layers." in name for name in coded)
    quantized = sum(node.op_type == "QuantizeLinear" for node in graph.node)
    assert 6 * quantized == 4 * len(coded)


def test_calibration_data_without_pictures_is_refused(tmp_path):
    write_checkpoint(MODEL, tmp_path / "model")
    checkpoint = open_checkpoint(tmp_path / "model", None)
    silent = Conversations(SHOWN.path, [{"conversations": []}])
    with pytest.raises(UserError, match="names no picture"):
        vision_magnitudes(checkpoint, checkpoint.tensors, silent)


@pytest.mark.parametrize("spread", [0.0, 1.0, 2.0])
def test_what_int8_leaves_is_foreseen(spread):
    """Against rounding the values themselves: where most become zero, a little less is promised than is left."""
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(4, 5000, generator=generator) * torch.exp(spread * torch.randn(4, 5000, generator=generator))
    seen = Magnitudes()
    for part in values:
        seen.add(part[None])
    step = values.abs().max() / 127
    lost = ((values / step).round() * step - values).square().sum(1)
    left = 10 * float(torch.log10(values.square().sum(1) / lost).mean())
    assert seen.largest == float(values.abs().max())
    assert left - 10 < seen.int8_db < left + 0.5
    assert spread or abs(seen.int8_db - left) < 0.5


def test_a_massive_token_does_not_hide_what_the_others_lose():
    """In them a step of its size leaves nothing, though of all values together it keeps nearly all the power."""
    values = torch.randn(50, 256, generator=torch.Generator().manual_seed(3))
    values[0] *= 1000
    seen = Magnitudes()
    seen.add(values[None])
    step = values.abs().max() / 127
    left = values.square().sum() / ((values / step).round() * step - values).square().sum()
    assert 10 * torch.log10(left) > 30 and seen.int8_db < 0


def test_values_that_are_all_zero_lose_nothing():
    seen = Magnitudes()
    seen.add(torch.zeros(1, 3, 8))
    assert seen.largest == 0 and seen.int8_db == float("inf")
