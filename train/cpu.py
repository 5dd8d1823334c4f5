"""Settings that make training on a CPU faster."""

from __future__ import annotations


def prefer_plain_attention() -> None:
    """Compute attention as plain products where there is no GPU.

    PyTorch's fused kernel for CPUs is slow going backward in bfloat16: 51 ms against 15 ms for 48 x 4 heads of 145 x 64
    on two Zen 5 cores (torch 2.13), a quarter of the whole step of the demo's tower.
    """
    import torch

    if not torch.cuda.is_available():
        torch.backends.cuda.enable_flash_sdp(False)  # despite the name, the switch is the CPU's as well
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
