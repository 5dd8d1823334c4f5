"""Assembles the model that training starts from: a language model or a MobileVLM, a vision tower, and a projector.

Any part may be new: the tower comes from another directory, the projector from a file of stage 1, or from nothing with
PyTorch's initial values.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..checkpoint.checkpoint import Checkpoint, check_tensors, open_checkpoint
from ..checkpoint.config import ModelConfig
from ..checkpoint.tensors import Entry, Tensors, open_file
from ..errors import UserError
from .model import MobileVLM, empty_model, expected_shapes
from .projectors import PREFIX, projector_of
from .weights import fill


def assemble(
    model: str | Path,
    *,
    changes: dict[str, Any] | None = None,
    projector: Path | None = None,
) -> MobileVLM:
    """Assemble and load the model that training starts from, in float32 on the CPU.

    Args:
        model: a MobileLLaMA or MobileVLM, by directory or hub id.
        changes: keys of `config.json` to replace: `mm_vision_tower` puts another tower in, `mm_projector_type` another
            projector, which is new unless the start has one of that very type.
        projector: an `mm_projector.bin` of stage 1, to start from.

    Raises:
        UserError: see `checkpoint.open_checkpoint` and `checkpoint.check_tensors`; the projector is of another type.
    """
    checkpoint = open_checkpoint(model, changes=changes or {})
    if checkpoint.config.vision:
        checkpoint = _with_projector(checkpoint, projector)
        if checkpoint.tower_dir:  # it is copied along when the model is saved, so that a checkpoint moves as a whole
            config = replace(checkpoint.config, mm_vision_tower=checkpoint.tower_dir.name)
            checkpoint = replace(checkpoint, config=config)
    elif projector:
        raise UserError(f"{model} has no vision tower, so {projector} has no place in it: name one with --vision-tower")
    check_tensors(checkpoint.tensors, expected_shapes(checkpoint.config), str(model))
    self = empty_model(checkpoint.config)
    fill(self, checkpoint.tensors, torch.float32, torch.device("cpu"))
    self.checkpoint, self.tokenizer = checkpoint, checkpoint.tokenizer()
    return self


def _with_projector(checkpoint: Checkpoint, file: Path | None) -> Checkpoint:
    """Checkpoint with a projector of the configured type: from the file, its own, or a new one."""
    shapes = {f"{PREFIX}{name}": tuple(shape) for name, shape in _projector_shapes(checkpoint.config).items()}
    own = {name: checkpoint.tensors.entry(name) for name in checkpoint.tensors if name.startswith(PREFIX)}
    if file:
        found = _named_as_published(open_file(file), set(shapes))
        check_tensors(found, shapes, f"{file}, for an {checkpoint.config.mm_projector_type} projector,")
        own = {name: found.entry(name) for name in found}
    elif {name: entry.shape for name, entry in own.items()} != shapes:
        own = _new_projector(checkpoint.config)
    rest = checkpoint.tensors.renamed(lambda name: None if name.startswith(PREFIX) else name)
    return replace(checkpoint, tensors=rest.replaced(own))


def _named_as_published(tensors: Tensors, expected: set[str]) -> Tensors:
    """Projector of a file: trainers put prefixes before its names, leave all of them out, or save the model beside."""
    part = PREFIX.removeprefix("model.")
    if any(part in name for name in tensors):
        # A trained embedding in the same file belongs to start and end tokens, and nothing here takes it over.
        others = ("embed_tokens.weight", part)
        kept = tensors.renamed(lambda name: name if any(one in name for one in others) else None)
        return kept.renamed(lambda name: PREFIX + name.split(part, 1)[1] if part in name else name)
    named = {name: PREFIX + name.removeprefix("module.") for name in tensors}
    return tensors.renamed(named.__getitem__) if set(named.values()) == expected else tensors


def _projector_shapes(config: ModelConfig) -> dict[str, torch.Size]:
    """Shapes of a projector's tensors, by name."""
    with torch.device("meta"):
        return {name: value.shape for name, value in projector_of(config).module(config).state_dict().items()}


def _new_projector(config: ModelConfig) -> dict[str, Entry]:
    """Tensors of a projector with PyTorch's initial values."""

    def entry(tensor: torch.Tensor) -> Entry:
        return Entry(tuple(tensor.shape), tensor.detach)

    return {PREFIX + name: entry(value) for name, value in projector_of(config).module(config).state_dict().items()}
