"""Settings for training on CPUs: faster attention and allocation, and a model divided over processes."""

from __future__ import annotations

import contextlib
import ctypes
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # as in glibc's malloc.h


def prepare_cpu() -> None:
    """Sets PyTorch and the allocator up for faster training where there is no GPU; does nothing elsewhere.

    Attention becomes plain products: PyTorch's fused kernel for CPUs (torch 2.13) is slower than they are in the
    backward pass in bfloat16. And freed memory stays with the process: glibc gives large blocks back to the system at
    once, so that every large tensor would be paid for in page faults again.
    """
    import torch

    if torch.cuda.is_available():
        return
    torch.backends.cuda.enable_flash_sdp(False)  # despite the name, the switch is the CPU's as well
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    with contextlib.suppress(OSError, AttributeError):  # no mallopt where libc is not glibc
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def length_step() -> int:
    """Number that the lengths of batches should be multiples of.

    Without a GPU batches have few lengths, so that the memory kept by `prepare_cpu` fits the next batch: with ever new
    lengths it becomes fragmented, and a step took 1.9 s at first and 2.7 s half an hour later.
    """
    import torch

    return 1 if torch.cuda.is_available() else 64


def give_back_memory() -> None:
    """Returns free memory between blocks in use to the system: kept, it grows with batches of ever new lengths."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def divide_on_cpu(state: Any, plugin_options: dict[str, Any]) -> None:
    """Makes accelerate divide the model with FSDP over processes without a GPU.

    PyTorch's `fully_shard` does that over gloo, and the rest of accelerate takes part, but up to 1.15 its
    `AcceleratorState` looks at the plugin for the kinds of GPU it knows and drops it without a word for MULTI_CPU.

    Args:
        state: state of the Accelerator, with several processes and no division yet.
        plugin_options: arguments of `FullyShardedDataParallelPlugin`.
    """
    from accelerate import PartialState
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

    plugin = FullyShardedDataParallelPlugin(**plugin_options)
    if state.mixed_precision != "no":
        plugin.set_mixed_precision(state.mixed_precision)
    state.fsdp_plugin = plugin
    for shared in (state, PartialState()):  # every later AcceleratorState() takes it from there
        shared.distributed_type = DistributedType.FSDP
