"""Calls PyTorch's elementwise functions once, on one number, before anything is computed with them.

In its builds for Intel and AMD, the first call of each function may compute one thread's share at half of float32's
precision, when two threads make it at once (https://github.com/pytorch/pytorch/issues/188792). RoPE's cosines are such
a first call: in every other process, a reference was off by 9e-5 of its largest value.
"""

from __future__ import annotations

import torch

FUNCTIONS = (torch.cos, torch.sin, torch.exp, torch.log, torch.log2, torch.sqrt, torch.erf, torch.tanh)


def settle() -> None:
    """Make PyTorch choose its kernels for float32 and float64: one number is computed by one thread."""
    for function in FUNCTIONS:
        for dtype in (torch.float32, torch.float64):
            function(torch.ones(1, dtype=dtype))
