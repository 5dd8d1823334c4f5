"""One process of a ZeRO run on CPUs, started by test_parallel.py: torchrun ... -m tests.train.zero_worker STAGE OUT."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

import deepspeed
import torch
import torch.distributed

from mobilevlm.model.assemble import assemble
from mobilevlm.text.prompt import IMAGE_TOKEN_INDEX
from mobilevlm.train.arguments import PARALLEL
from tests.conftest import GOLDEN

STEPS, RATE = 3, 1e-3


def config(stage: int) -> dict:
    """The file that recipes name, with numbers where transformers would put them."""
    settings = json.loads((PARALLEL / f"zero{stage}.json").read_text())
    settings["zero_optimization"] = {
        name: 10_000 if value == "auto" else value for name, value in settings["zero_optimization"].items()
    }
    sizes = {"train_batch_size": 2, "train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": 1}
    types = {"bf16": {"enabled": False}, "fp16": {"enabled": False}}
    return settings | sizes | types | {"gradient_clipping": 0.5, "zero_allow_untested_optimizer": True}


def optimizer(model: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], RATE)


def main(stage: int, result: Path) -> None:
    """Two rows, one with a picture: learned by one process, then by two with a row each."""
    deepspeed.init_distributed("gloo")
    rank = torch.distributed.get_rank()
    model = assemble(GOLDEN / "v1_ldpnet_112" / "ckpt_safetensors").train().requires_grad_(True)
    model.model.vision_tower.requires_grad_(False).eval()
    model.config.use_cache = False
    ids = torch.randint(5, 300, (2, 16), generator=torch.Generator().manual_seed(0))
    ids[0, 3] = IMAGE_TOKEN_INDEX
    images = torch.randn(2, 3, 112, 112, generator=torch.Generator().manual_seed(0))

    def loss(learner, row):
        one, mask = ids[row : row + 1], torch.ones(1, 16, dtype=torch.long)
        return learner(one, attention_mask=mask, labels=one.clamp(min=-100), images=images[row : row + 1]).loss

    alone, alone_losses = copy.deepcopy(model), []
    adam = optimizer(alone)
    for _ in range(STEPS):
        both = (loss(alone, 0) + loss(alone, 1)) / 2
        both.backward()
        torch.nn.utils.clip_grad_norm_(alone.parameters(), 0.5)
        adam.step()
        adam.zero_grad()
        alone_losses.append(both.item())
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer(model), config=config(stage))
    losses = []
    for _ in range(STEPS):
        mine = loss(engine, rank)
        engine.backward(mine)
        engine.step()
        both = mine.detach().clone()
        torch.distributed.all_reduce(both)
        losses.append(both.item() / 2)
    if rank == 0:
        held = sum(weight.numel() for weight in engine.module.parameters())
        whole = sum(weight.numel() for weight in alone.parameters())
        result.write_text(json.dumps({"alone": alone_losses, "divided": losses, "held": held, "whole": whole}))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
