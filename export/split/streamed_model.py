"""The PyTorch model of a checkpoint with its weights streamed: a weight is in memory only while its layer runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from accelerate.hooks import attach_align_device_hook

from mobilevlm.checkpoint.checkpoint import Checkpoint
from mobilevlm.model.model import MobileVLM, empty_model


class _Float32(Mapping[str, torch.Tensor]):
    """A checkpoint's tensors in float32, for a float32 reference."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], tied: bool):
        self.tensors, self.tied = tensors, tied

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.tensors["model.embed_tokens.weight" if self.tied and name == "lm_head.weight" else name].float()

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def streamed_model(checkpoint: Checkpoint, tensors: Mapping[str, torch.Tensor] | None = None) -> MobileVLM:
    """Returns the model in float32, whose modules read their weights when they run, and forget them.

    Args:
        checkpoint: the model.
        tensors: its weights in another form, such as `equalize.Balanced`; None for its own.
    """
    model = empty_model(checkpoint.config)
    weights = _Float32(tensors or checkpoint.tensors, checkpoint.config.tie_word_embeddings)
    attach_align_device_hook(model, execution_device=torch.device("cpu"), offload=True, weights_map=weights)
    return model


def layers_of(model: MobileVLM) -> list[torch.nn.Module]:
    """Returns a model's layers, the decoder's and CLIP's."""
    tower = getattr(model.model, "vision_tower", None)
    clip = [] if tower is None else tower.vision_tower["vision_model"].encoder.layers
    return [*model.model.layers, *clip]
