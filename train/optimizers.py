"""AdamW, or Muon for the matrices inside of blocks and AdamW for the rest.

Muon (https://kellerjordan.github.io/posts/muon/) makes every step of a matrix orthogonal. Steps are scaled as in arXiv
2502.16982, so that one learning rate fits both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

import torch
from torch.optim import AdamW, Muon, Optimizer

BLOCKS = ".layers."


class MuonAndAdamW(Optimizer):
    """Optimiser that steps Muon and AdamW, each with its own groups; schedules and checkpoints see one optimiser."""

    def __init__(self, groups: list[dict[str, Any]], names: dict[int, str], **adamw: Any):
        """Divides groups of parameters between the two.

        Args:
            groups: parameter groups, as an Optimizer takes them.
            names: name of each parameter, by `id`.
            **adamw: AdamW's options; its learning rate is Muon's as well.
        """
        inside, others = [], []
        for group in groups:
            chosen = [weight for weight in group["params"] if weight.ndim == 2 and BLOCKS in names[id(weight)]]
            kept = {id(weight) for weight in chosen}
            rest = [weight for weight in group["params"] if id(weight) not in kept]
            inside += [group | {"params": chosen}] if chosen else []
            others += [group | {"params": rest}] if rest else []
        rate = {"lr": adamw["lr"], "adjust_lr_fn": "match_rms_adamw"}
        self.parts: list[Optimizer] = []
        if inside:
            self.parts.append(Muon(inside, **rate))
        if others:
            self.parts.append(AdamW(others, **adamw))
        super().__init__([group for part in self.parts for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Lets both parts work on this optimiser's groups and state."""
        start = 0
        for part in self.parts:
            end = start + len(part.param_groups)
            part.param_groups, part.state, start = self.param_groups[start:end], self.state, end

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads the state of a checkpoint."""
        super().load_state_dict(state_dict)
        self._share()

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Steps both optimisers; a closure is evaluated first, and its loss is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss


def new_optimizer(kind: str, model: torch.nn.Module, groups: list[dict[str, Any]], adamw: dict[str, Any]) -> Optimizer:
    """Returns the optimiser that a recipe names in `optim`.

    Args:
        kind: "adamw" or "muon".
        model: the model whose parameters are trained.
        groups: those parameters in groups, each perhaps with its own learning rate and weight decay.
        adamw: AdamW's options.
    """
    if kind == "adamw":
        return AdamW(groups, **adamw)
    return MuonAndAdamW(groups, {id(weight): name for name, weight in model.named_parameters()}, **adamw)
