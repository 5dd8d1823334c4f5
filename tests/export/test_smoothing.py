"""Down projections in int8: the model computes the same, and one scale fits what they read."""

from __future__ import annotations

import pytest
import torch

from mobilevlm.export.calibration.decoder_activations import Observed
from mobilevlm.export.weights.equalize import Balanced
from mobilevlm.export.weights.smoothquant import Smoothed
from tests.export.tensorrt_models import Model

CHANNELS, TIMES = slice(5, 9), 50.0


@pytest.fixture(scope="module")
def model() -> Model:
    """With a few channels of its products much larger than the others, on both sides."""
    model = Model({"num_hidden_layers": 2})
    for layer in range(2):
        model.tensors[f"model.layers.{layer}.mlp.gate_proj.weight"][CHANNELS] *= TIMES
    return model


@pytest.fixture(scope="module")
def smoothed(model) -> Smoothed:
    """As a build leaves it: all layers were run."""
    even = Balanced(model.tensors, model.config)
    found = Smoothed(even)
    observed = Observed(model.config, even, [model.embeds[:, :200]], smoothed=found)
    observed.magnitudes("model.layers.1.mlp.down_proj")
    return found


def test_the_model_computes_what_it_did(model, smoothed):
    wanted = model.logits()
    got = model.logits({name: smoothed[name].float() for name in smoothed})
    assert abs(got - wanted).max() < 1e-4 * abs(wanted).max()
    changed = {name for name in model.tensors if not torch.equal(smoothed[name], balanced(model)[name])}
    assert changed == {f"model.layers.{layer}.mlp.{part}_proj.weight" for layer in (0, 1) for part in ("down", "up")}


def balanced(model: Model) -> Balanced:
    return Balanced(model.tensors, model.config)


def test_rounding_takes_less_of_what_is_projected(model):
    """By rounding rows and weights as TensorRT does, before and after."""
    even, rows = balanced(model), []
    observed = Observed(model.config, even, [model.embeds[:, :200]])
    layer = observed._model.layers[0].mlp.down_proj
    layer.register_forward_pre_hook(lambda _, read: rows.append(read[0][0].clone()))
    before = observed.magnitudes("model.layers.0.mlp.down_proj").int8_db
    smoothed = Smoothed(even)
    after = Observed(model.config, even, [model.embeds[:, :200]], smoothed=smoothed)
    after = after.magnitudes("model.layers.0.mlp.down_proj").int8_db
    name = "model.layers.0.mlp.down_proj.weight"
    left = {
        "before": projected_db(rows[0], even[name].float()),
        "after": projected_db(smoothed.smooth(0, rows[0]), smoothed[name]),
    }
    assert after > before + 8 and left["after"] > left["before"] + 8 and left["after"] > 25


def projected_db(rows: torch.Tensor, weight: torch.Tensor) -> float:
    """What int8 leaves of a product, by the power of a usual row."""

    def rounded(values: torch.Tensor, largest: torch.Tensor) -> torch.Tensor:
        return (values / (largest / 127)).round() * (largest / 127)

    exact = rows @ weight.T
    got = rounded(rows, rows.abs().max()) @ rounded(weight, weight.abs().amax(1, keepdim=True)).T
    return float(10 * (exact.square().sum(1) / (got - exact).square().sum(1)).log10().mean())


def test_channels_that_are_never_used_stay(model):
    rows = torch.ones(3, model.config.intermediate_size)
    rows[:, 4] = 0
    smoothed = Smoothed(model.tensors)
    assert torch.isfinite(smoothed.smooth(0, rows)).all()
    assert torch.isfinite(smoothed["model.layers.0.mlp.down_proj.weight"]).all()
