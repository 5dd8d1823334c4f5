"""Evened-out channels: the same function, and none of them stands out."""

from dataclasses import replace

import pytest
import torch

from mobilevlm import MobileVLM
from mobilevlm.export.weights.equalize import Balanced, passages
from tests.export.outliers import with_outliers
from tests.export.test_architectures import CASES, MODEL, write_checkpoint

ARCHITECTURES = [
    "grouped heads",
    "heads of 80",
    "heads wider than the model",
    "tied embeddings",
    "gelu tower",
    "text only",
]


def outputs(model: MobileVLM) -> list[torch.Tensor]:
    """Image embeddings and logits of fixed inputs."""
    generator = torch.Generator().manual_seed(1)
    found = []
    config = model.config.model_config
    with torch.no_grad():
        if config.vision:
            size = config.vision.image_size
            found.append(model.encode_images(torch.randn(1, 3, size, size, generator=generator))[0])
        found.append(model(torch.arange(5, 25)[None]).logits[0])
    return found


@pytest.mark.parametrize("case", ARCHITECTURES)
def test_the_model_computes_what_it_did(case, tmp_path):
    """With norms far from 1 and channels thirty times the others; PyTorch on both sets of weights."""
    config = replace(MODEL, **CASES[case])
    write_checkpoint(config, tmp_path / "model")
    model = MobileVLM.from_pretrained(tmp_path / "model")
    plain = with_outliers(model.state_dict(), config)
    model.load_state_dict(plain)
    expected = outputs(model)
    balanced = Balanced(plain, config)
    assert set(balanced) == set(plain)
    changed = [name for name in plain if not torch.equal(balanced[name], plain[name])]
    assert {name for passage in passages(config) for name in passage.readers} <= set(changed)
    model.load_state_dict({name: balanced[name] for name in plain})
    for ours, theirs in zip(outputs(model), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-4 * theirs.abs().max().item(), rtol=0)


def test_outliers_are_evened_out(tmp_path):
    """The columns a norm's outlier channels are read by are of the others' size again, and so are its gains."""
    write_checkpoint(MODEL, tmp_path / "model")
    plain = with_outliers(MobileVLM.from_pretrained(tmp_path / "model").state_dict(), MODEL)
    balanced = Balanced(plain, MODEL)

    def spread(values: torch.Tensor) -> float:
        return (values.abs().max() / values.abs().min()).item()

    gain, reader = "model.layers.0.input_layernorm.weight", "model.layers.0.self_attn.q_proj.weight"
    assert spread(plain[gain]) > 20 and spread(plain[reader].norm(dim=0)) > 20
    assert spread(balanced[gain]) < 2 and spread(balanced[reader].norm(dim=0)) < 2


def test_channels_that_carry_nothing_stay(tmp_path):
    write_checkpoint(MODEL, tmp_path / "model")
    tensors = dict(MobileVLM.from_pretrained(tmp_path / "model").state_dict())
    gain = "model.layers.0.input_layernorm.weight"
    tensors[gain] = tensors[gain].clone()
    tensors[gain][3] = 0
    balanced = Balanced(tensors, MODEL)
    assert balanced[gain][3] == 0
    assert all(torch.isfinite(balanced[name]).all() for name in tensors)
