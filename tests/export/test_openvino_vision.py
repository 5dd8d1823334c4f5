"""Vision as it is written for OpenVINO, against transformers' CLIP and the projectors, on both runtimes."""

from dataclasses import replace

import numpy as np
import onnxruntime as ort
import pytest
import torch

from mobilevlm.checkpoint.tensors import random_tensors
from mobilevlm.engines.ort.openvino import OpenVinoGraph
from mobilevlm.engines.stages import IMAGE_EMBEDS, PIXEL_VALUES
from mobilevlm.export.lowerings import ort_openvino
from mobilevlm.export.precisions import precision
from mobilevlm.export.split.graph import Graph
from mobilevlm.export.split.vision import write_vision
from mobilevlm.model.model import empty_model, expected_shapes
from tests.export.test_architectures import MODEL


@pytest.mark.parametrize("name, most", [("fp32", 2e-5), ("int8_amx", 0.05)])
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_image_embeds_are_transformers(name, most, activation, tmp_path):
    config = replace(MODEL, vision=replace(MODEL.vision, hidden_act=activation))
    tensors = {key: value.float() for key, value in random_tensors(expected_shapes(config), seed=5).items()}
    model = empty_model(config)
    model.load_state_dict(tensors, assign=True)
    size = config.vision.image_size
    pixels = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected = model.encode_images(pixels)[0].numpy()
    path = tmp_path / "vision.onnx"
    with Graph("vision", tensors, precision(name), tmp_path / "vision.weights") as graph:
        write_vision(graph, config, ort_openvino)
        graph.save(path)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    for runs in (session, OpenVinoGraph(path, shared=None, in_float32=True)):
        got = runs.run([IMAGE_EMBEDS], {PIXEL_VALUES: pixels.numpy()})[0]
        assert np.abs(got - expected).mean() < most * np.abs(expected).mean()
