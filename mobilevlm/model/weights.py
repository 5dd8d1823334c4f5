"""Gives a PyTorch model its weights: data types by name, and one tensor of a checkpoint after the other."""

from __future__ import annotations

import torch
from accelerate.utils import set_module_tensor_to_device
from torch import nn
from transformers import PreTrainedModel

from ..checkpoint.tensors import Tensors
from ..errors import UserError


def as_dtype(dtype: torch.dtype | str) -> torch.dtype:
    """Floating-point dtype by any of its names: `fp16`, `float16`, `torch.float16`.

    Raises:
        UserError: it is no floating-point type.
    """
    short = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
    name = str(dtype).removeprefix("torch.")
    found = getattr(torch, short.get(name, name), None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise UserError(f"dtype is {dtype!r}; it can be fp32, fp16 or bf16")
    return found


def fill(model: PreTrainedModel, tensors: Tensors, dtype: torch.dtype, device: torch.device) -> None:
    """Load weights into a model, one tensor at a time, so that they never exist twice in memory.

    Args:
        model: its parameters are on the meta device.
        tensors: a tensor for each of the model's parameters, by the same names.
        dtype: of the model's parameters afterwards.
        device: of the model's parameters and buffers afterwards.
    """
    for name, tensor in tensors.items():
        # A copy even where dtype and device agree: a memory-mapped file must not change under a live model.
        value = tensor.detach().to(device=device, dtype=dtype, copy=True)
        set_module_tensor_to_device(model, name, device, value=value, dtype=dtype)
    if model.config.tie_word_embeddings:
        model.tie_weights()
    module: nn.Module = model  # transformers wraps `to` in a way that hides its parameters from a type checker
    module.to(device)
