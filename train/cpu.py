"""Training on CPUs: faster, and with the model divided over processes."""

from __future__ import annotations

from typing import Any


def prefer_plain_attention() -> None:
    """Compute attention as plain products where there is no GPU.

    PyTorch's fused kernel for CPUs (torch 2.13) goes backward more slowly than the products do, in bfloat16.
    """
    import torch

    if not torch.cuda.is_available():
        torch.backends.cuda.enable_flash_sdp(False)  # despite the name, the switch is the CPU's as well
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)


def divide_on_cpu(state: Any, plugin_options: dict[str, Any]) -> None:
    """Have accelerate divide the model with FSDP over processes without a GPU.

    PyTorch's `fully_shard` does that over gloo, and the rest of accelerate takes part, but up to 1.15 its
    `AcceleratorState` looks at the plugin for the kinds of GPU it knows and drops it without a word for MULTI_CPU.

    Args:
        state: the Accelerator's, of several processes that do not divide anything yet.
        plugin_options: of `FullyShardedDataParallelPlugin`.
    """
    from accelerate import PartialState
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

    plugin = FullyShardedDataParallelPlugin(**plugin_options)
    if state.mixed_precision != "no":
        plugin.set_mixed_precision(state.mixed_precision)
    state.fsdp_plugin = plugin
    for shared in (state, PartialState()):  # every later AcceleratorState() takes it from there
        shared.distributed_type = DistributedType.FSDP
