"""Muon beside AdamW against torch's own two, and its checkpoints."""

import copy

import torch
from torch import nn

from mobilevlm.train.optimizers import MuonAndAdamW, new_optimizer

ADAMW = {"lr": 1e-2, "betas": (0.9, 0.98), "eps": 1e-8}


def a_model() -> nn.Module:
    torch.manual_seed(0)
    model = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(8, 6), nn.Linear(6, 8)]), "head": nn.Linear(8, 3)})
    return nn.ModuleDict({"model": model})


def steps(model: nn.Module, optimizers: list, count: int, seed: int = 1) -> None:
    torch.manual_seed(seed)
    for _ in range(count):
        first, second = model["model"]["layers"]
        loss = model["model"]["head"](second(first(torch.randn(4, 8)).tanh())).square().sum()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


def both(model: nn.Module) -> MuonAndAdamW:
    weights = list(model.parameters())
    groups = [
        {"params": [weight for weight in weights if weight.ndim > 1], "weight_decay": 0.1},
        {"params": [weight for weight in weights if weight.ndim <= 1], "weight_decay": 0.0},
    ]
    return new_optimizer("muon", model, groups, ADAMW)


def test_matrices_inside_blocks_step_as_muon_does_and_the_rest_as_adamw():
    ours, theirs = a_model(), a_model()
    steps(ours, [both(ours)], 5)
    named = dict(theirs.named_parameters())
    inside = [weight for name, weight in named.items() if ".layers." in name and weight.ndim == 2]
    outside = [weight for weight in named.values() if not any(weight is other for other in inside)]
    head = [weight for weight in outside if weight.ndim == 2]
    small = [weight for weight in outside if weight.ndim < 2]
    muon = torch.optim.Muon(inside, lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW([{"params": head, "weight_decay": 0.1}, {"params": small, "weight_decay": 0.0}], **ADAMW)
    steps(theirs, [muon, adamw], 5)
    assert len(inside) == 2 and len(head) == 1
    for name, weight in ours.named_parameters():
        assert torch.equal(weight, named[name]), name


def test_a_schedule_reaches_both():
    model = a_model()
    before = copy.deepcopy(model.state_dict())
    optimizer = both(model)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0)
    steps(model, [optimizer], 2)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_checkpoint_goes_on_with_the_same_steps():
    model = a_model()
    optimizer = both(model)
    steps(model, [optimizer], 3)
    other, weights, state = a_model(), copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    steps(model, [optimizer], 3, seed=2)
    other.load_state_dict(weights)
    resumed = both(other)
    resumed.load_state_dict(state)
    steps(other, [resumed], 3, seed=2)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_a_closure_is_evaluated_before_the_step():
    model = a_model()
    optimizer = both(model)
    weight = model["model"]["head"].weight
    before = weight.detach().clone()

    def closure() -> float:
        loss = weight.square().sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == before.square().sum().item()
    assert not torch.equal(weight, before)
