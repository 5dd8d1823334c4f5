"""Calls PyTorch's elementwise functions once, on one number, before anything is computed with them.

In its builds for Intel and AMD, the first call of each, when two threads make it at once, may run a kernel with half of
float32's bits for one thread's share (https://github.com/pytorch/pytorch/issues/188792). RoPE's cosines are such a
first call: a reference was off by 9e-5 of its largest value in every other process, and right in the next.
"""

from __future__ import annotations

import torch

FUNCTIONS = (torch.cos, torch.sin, torch.exp, torch.log, torch.log2, torch.sqrt, torch.erf, torch.tanh)


def settle() -> None:
    """Let the library choose its kernels, of float32 and float64; the work of one number is not shared out."""
    for function in FUNCTIONS:
        for dtype in (torch.float32, torch.float64):
            function(torch.ones(1, dtype=dtype))
