"""Magnitudes of what CLIP's linear layers read when images are run through it: for int8 ranges."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from mobilevlm.checkpoint.checkpoint import Checkpoint
from mobilevlm.errors import UserError
from mobilevlm.image import ImageSpec, as_list, load_image, preprocess

from ..split.int8_error import Magnitudes
from ..split.streamed_model import streamed_model
from .conversations import Conversations


def shows_images(source: Conversations) -> bool:
    """Whether conversations are about any image."""
    return any(as_list(row.get("image")) for row in source.rows)


def image_files(source: Conversations) -> list[Path]:
    """Returns the files of the images that conversations are about.

    Raises:
        UserError: there are none.
    """
    files = [source.path.parent / name for row in source.rows for name in as_list(row.get("image"))]
    if not files:
        raise UserError(f"--calibration {source.path} names no picture, and the ranges of vision come from some")
    return files


def vision_magnitudes(
    checkpoint: Checkpoint, tensors: Mapping[str, torch.Tensor], source: Conversations
) -> dict[str, Magnitudes]:
    """Gathers the magnitudes of what each linear layer of the vision tower reads, by the layer's name.

    Args:
        checkpoint: the model.
        tensors: its weights, balanced where the ones that are quantised are.
        source: conversations, whose images are shown.
    """
    spec, found = ImageSpec.of(checkpoint.config), {}
    model = streamed_model(checkpoint, tensors)
    for name, module in model.model.vision_tower.named_modules():
        if isinstance(module, torch.nn.Linear):
            seen = found[f"model.vision_tower.{name}"] = Magnitudes()
            module.register_forward_pre_hook(lambda _, read, to=seen: to.add(read[0]))
    # All in one batch: every weight is read once.
    batch = torch.cat([torch.from_numpy(preprocess(load_image(file), spec)) for file in image_files(source)])
    with torch.inference_mode():
        model.encode_images(batch)
    return found
