"""Gives tensors their published names back, from which training programs have them wrapped.

DistributedDataParallel puts `module.` before every name, `torch.compile` puts `_orig_mod.`, FSDP and activation
checkpointing put components into the middle, a model that was an attribute `model` of another carries one `model.` too
many, and a LLaMA without its head lacks one.
"""

from __future__ import annotations

import re

from .checkpoint_error import CheckpointError

WITHIN = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\.")
AROUND = ("module.", "base_model.model.")
BARE = ("embed_tokens.", "layers.", "norm.", "vision_tower.", "mm_projector.")


def published_names(names: list[str], where: str) -> dict[str, str]:
    """Published name of each tensor.

    Args:
        names: as a file has them.
        where: the file, for the message.

    Raises:
        CheckpointError: two of them are the same tensor.
    """
    found = {name: WITHIN.sub("", name) for name in names}
    while prefix := next((one for one in AROUND if found and all(n.startswith(one) for n in found.values())), None):
        found = {name: shorter.removeprefix(prefix) for name, shorter in found.items()}
    if any(name.startswith("model.model.") for name in found.values()):
        found = {name: shorter.removeprefix("model.") for name, shorter in found.items()}
    elif "embed_tokens.weight" in found.values():
        found = {name: f"model.{shorter}" if shorter.startswith(BARE) else shorter for name, shorter in found.items()}
    if len(set(found.values())) != len(found):
        raise CheckpointError(f"{where} holds tensors twice, under names of several wrappers: keep one set of them")
    return found
