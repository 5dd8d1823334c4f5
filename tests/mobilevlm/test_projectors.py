"""Projectors: against a second implementation in plain PyTorch, and their ONNX form against them, over many grids."""

from dataclasses import replace

import numpy as np
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto
from torch.nn import functional as F

from mobilevlm.checkpoint.config import ConfigError, ModelConfig, VisionConfig, projector_family
from mobilevlm.checkpoint.tensors import Entry, Tensors
from mobilevlm.export.precisions import precision
from mobilevlm.export.split.graph import Graph
from mobilevlm.model.projectors import PREFIX, num_image_tokens, projector_of
from mobilevlm.model.projectors.ldpnet import squeeze_channels

TYPES = ("linear", "mlp1x_gelu", "mlp2x_gelu", "mlp3x_gelu", "ldpnet", "ldpnetv2")
GRIDS = (7, 8, 12, 13, 24)


def config_of(projector, grid, hidden_size=64, heads=4):
    vision = VisionConfig(hidden_size=32, image_size=14 * grid, num_hidden_layers=2)
    sizes = dict(intermediate_size=8, num_hidden_layers=1, num_attention_heads=heads, num_key_value_heads=heads)
    return ModelConfig(hidden_size=hidden_size, **sizes, mm_projector_type=projector, mm_hidden_size=32, vision=vision)


def seeded_projector(config):
    torch.manual_seed(0)
    module = projector_of(config).module(config).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module


def by_hand(weights, projector, x):
    """The projectors from upstream's description, channel by channel, sharing no code with ours."""
    grid = int(x.shape[1] ** 0.5)
    if projector == "linear":
        return F.linear(x, weights["weight"], weights["bias"])
    if projector.startswith("mlp"):
        for i in range(int(projector[3])):
            x = F.linear(F.gelu(x) if i else x, weights[f"{2 * i}.weight"], weights[f"{2 * i}.bias"])
        return x
    first, second = ("mlp.mlp.0", "mlp.mlp.2") if projector == "ldpnetv2" else ("model.mlp.1", "model.mlp.3")
    x = F.gelu(F.linear(x, weights[f"{first}.weight"], weights[f"{first}.bias"]))
    x = F.linear(x, weights[f"{second}.weight"], weights[f"{second}.bias"])
    image = x.permute(0, 2, 1).view(1, -1, grid, grid)
    if projector == "ldpnetv2":
        rows = [image[:, :, i * grid // 12 : -(-(i + 1) * grid // 12)].mean(2) for i in range(12)]
        image = torch.stack(rows, 2)
        columns = [image[..., i * grid // 12 : -(-(i + 1) * grid // 12)].mean(3) for i in range(12)]
        image = torch.stack(columns, 3)
        peg = F.conv2d(image, weights["peg.peg.0.weight"], weights["peg.peg.0.bias"], padding=1, groups=image.shape[1])
        return (image + peg).flatten(2).permute(0, 2, 1)
    for number, stride in ((1, 1), (2, 2)):
        w = {k.split(f"mb_block.{number}.block.")[1]: v for k, v in weights.items() if f"mb_block.{number}." in k}

        def norm(t, name, w=w):
            mean, var = t.mean(1, keepdim=True), t.var(1, keepdim=True, unbiased=False)
            scale, shift = (w[f"{name}.{part}"].view(1, -1, 1, 1) for part in ("weight", "bias"))
            return (t - mean) / torch.sqrt(var + 1e-5) * scale + shift

        y = F.conv2d(image, w["0.0.weight"], stride=stride, padding=1, groups=image.shape[1])
        y = norm(y, "0.1")
        y = y * (y + 3).clamp(0, 6) / 6
        squeezed = y.mean((2, 3), keepdim=True)
        squeezed = F.conv2d(
            F.conv2d(squeezed, w["1.fc1.weight"], w["1.fc1.bias"]).relu(), w["1.fc2.weight"], w["1.fc2.bias"]
        )
        y = norm(F.conv2d(y * (squeezed + 3).clamp(0, 6) / 6, w["2.0.weight"]), "2.1")
        image = image + y if stride == 1 else y
    return image.flatten(2).permute(0, 2, 1)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("projector", TYPES)
def test_projector_and_its_onnx_match_the_description(projector, grid, tmp_path):
    config = config_of(projector, grid)
    module = seeded_projector(config)
    weights = {name: value.detach() for name, value in module.state_dict().items()}
    x = torch.randn(1, grid * grid, 32)
    with torch.no_grad():
        ours, expected = module(x), by_hand(weights, projector, x)
    torch.testing.assert_close(ours, expected, atol=2e-5, rtol=1e-5)
    assert ours.shape == (1, num_image_tokens(config), 64)
    got = run_onnx(config, weights, x, tmp_path)
    np.testing.assert_allclose(got, expected, atol=5e-5, rtol=1e-4)


def run_onnx(config, weights, x, directory):
    tensors = Tensors({PREFIX + name: Entry(value.shape, lambda value=value: value) for name, value in weights.items()})
    with Graph("projector", tensors, precision("fp32"), directory / "projector.weights") as graph:
        graph.input("features", TensorProto.FLOAT, list(x.shape))
        out = projector_of(config).to_onnx(graph, "features", config)
        graph.output(out, TensorProto.FLOAT, [1, num_image_tokens(config), config.hidden_size])
        graph.save(directory / "projector.onnx")
    session = ort.InferenceSession(str(directory / "projector.onnx"), providers=["CPUExecutionProvider"])
    return session.run(None, {"features": x.numpy()})[0]


def test_squeeze_channels_of_the_published_sizes():
    assert [squeeze_channels(dim) for dim in (2048, 2560, 4096)] == [512, 640, 1024]
    assert [squeeze_channels(dim) for dim in (64, 8, 88, 72)] == [16, 8, 24, 24]


def test_type_dispatch_follows_the_original():
    names = {"linear": "linear", "mlp12x_gelu": "mlp", "ldpnetv2_x": "ldpnetv2", "ldpnet_v3": "ldpnet"}
    assert {name: projector_family(name) for name in names} == names
    for name in ("mlp2x_relu", "linear2", "", "LDPNET"):
        with pytest.raises(ConfigError, match="mm_projector_type"):
            projector_family(name)


def test_ldp_refuses_a_class_token_and_odd_channels():
    with pytest.raises(ConfigError, match="square grid"):
        replace(config_of("ldpnetv2", 8), mm_vision_select_feature="cls_patch")
    with pytest.raises(ConfigError, match="multiple of 8, got 60"):
        seeded_projector(config_of("ldpnet", 8, hidden_size=60, heads=2))
    assert num_image_tokens(replace(config_of("linear", 8), mm_vision_select_feature="cls_patch")) == 65
