"""`ldpnet` (MobileVLM V1): two linears, then two MobileNetV3 inverted residuals, the second with stride 2.

Each block is a depthwise 3x3, LayerNorm over channels, Hardswish, squeeze-excite with Hardsigmoid, a 1x1 convolution
and LayerNorm. Source: MobileVLM (arXiv 2312.16886), section 3.3; parameter names are torchvision's, as published.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...checkpoint.config import ConfigError, ModelConfig
from . import PREFIX, Graph

if TYPE_CHECKING:
    import torch
    from torch import nn

NORM_EPSILON = 1e-5  # PyTorch's


def num_tokens(config: ModelConfig) -> int:
    """Image tokens per image: a quarter of the patches, an odd side rounded up."""
    return ((config.tower.grid + 1) // 2) ** 2


def operations(config: ModelConfig) -> int:
    """Operations of both linears and the first block on all patches, and of the second block on a quarter of them."""
    patches, square = config.num_patches, config.hidden_size**2
    first = patches * config.mm_hidden_size * config.hidden_size
    return 2 * (first + (2 * patches + num_tokens(config)) * square)


def num_weights(config: ModelConfig) -> int:
    """Weights of two linears and a 1 x 1 convolution in each block; squeeze-excite, on one row, is left out."""
    return config.mm_hidden_size * config.hidden_size + 3 * config.hidden_size**2


def module(config: ModelConfig) -> nn.Module:
    """(B, grid*grid, mm_hidden_size) to (B, ceil(grid/2)**2, hidden_size) in PyTorch.

    Raises:
        ConfigError: channels cannot be squeezed as published.
    """
    from torch import nn

    in_dim, dim = config.mm_hidden_size, config.hidden_size
    if dim % 8:
        raise ConfigError(f"ldpnet needs a hidden_size that is a multiple of 8, got {dim}")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            # The identities keep the published indices: mlp.1, mlp.3, mb_block.1, mb_block.2.
            self.mlp = nn.Sequential(nn.Identity(), nn.Linear(in_dim, dim), nn.GELU(), nn.Linear(dim, dim))
            self.mb_block = nn.Sequential(nn.Identity(), _inverted_residual(dim, 1), _inverted_residual(dim, 2))

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = Net()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.model.mlp(x)
            batch, patches, dim = x.shape
            grid = int(patches**0.5)
            image = x.transpose(1, 2).reshape(batch, dim, grid, grid)
            return self.model.mb_block(image).flatten(2).transpose(1, 2)

    return Outer()


def _inverted_residual(dim: int, stride: int) -> nn.Module:
    """(B, dim, H, W) to the same, or with stride 2 to half the sides; stride 1 adds its input."""
    from torch import nn

    class ChannelNorm(nn.LayerNorm):
        """LayerNorm over the channel axis of (B, C, H, W), at every pixel."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    class InvertedResidual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            depthwise = nn.Conv2d(dim, dim, 3, stride, padding=1, groups=dim, bias=False)
            pointwise = nn.Conv2d(dim, dim, 1, bias=False)
            self.block = nn.Sequential(
                nn.Sequential(depthwise, ChannelNorm(dim), nn.Hardswish()),
                _squeeze_excite(dim),
                nn.Sequential(pointwise, ChannelNorm(dim)),
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.block(x) + x if stride == 1 else self.block(x)

    return InvertedResidual()


def _squeeze_excite(dim: int) -> nn.Module:
    """Channels of (B, dim, H, W), each multiplied by a number from 0 to 1 that is computed from all channels' means."""
    from torch import nn

    class SqueezeExcite(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1 = nn.Conv2d(dim, squeeze_channels(dim), 1)
            self.fc2 = nn.Conv2d(squeeze_channels(dim), dim, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scale = self.fc1(x.mean((2, 3), keepdim=True)).relu()
            return nn.functional.hardsigmoid(self.fc2(scale)) * x

    return SqueezeExcite()


def squeeze_channels(dim: int) -> int:
    """Hidden channels of a squeeze-excite: a quarter, rounded to a multiple of 8, at most a tenth below it."""
    rounded = max(8, (dim // 4 + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * (dim // 4) else rounded


def to_onnx(graph: Graph, x: str, config: ModelConfig) -> str:
    """Writes the projector into a graph.

    Args:
        graph: to write into.
        x: name of the patch features, (1, grid*grid, mm_hidden_size).
        config: the model.
    """
    grid, dim = config.tower.grid, config.hidden_size
    x = graph.linear(graph.op("Gelu", graph.linear(x, f"{PREFIX}model.mlp.1")), f"{PREFIX}model.mlp.3")
    x = graph.op("Reshape", x, graph.constant(np.array([1, grid, grid, dim])))
    x = graph.op("Add", _block_to_onnx(graph, x, f"{PREFIX}model.mb_block.1.block.", dim, stride=1), x)
    x = _block_to_onnx(graph, x, f"{PREFIX}model.mb_block.2.block.", dim, stride=2)
    return graph.op("Reshape", x, graph.constant(np.array([1, -1, dim])))


def _block_to_onnx(graph: Graph, x: str, block: str, dim: int, stride: int) -> str:
    """One inverted residual on (1, H, W, C): channels stay last, so that 1x1 convolutions are linears."""
    depthwise = graph.weight(f"{block}0.0.weight")
    image = graph.op("Transpose", x, perm=[0, 3, 1, 2])
    image = graph.op(
        "Conv", image, depthwise, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[stride, stride], group=dim
    )
    image = graph.op("Transpose", image, perm=[0, 2, 3, 1])
    x = graph.op("HardSwish", graph.layer_norm(image, f"{block}0.1", NORM_EPSILON))
    scale = graph.op("ReduceMean", x, graph.constant(np.array([1, 2])), keepdims=1)
    scale = graph.linear(graph.op("Relu", graph.linear(scale, f"{block}1.fc1")), f"{block}1.fc2")
    x = graph.op("Mul", x, graph.op("HardSigmoid", scale, alpha=1 / 6, beta=0.5))
    return graph.layer_norm(graph.linear(x, f"{block}2.0"), f"{block}2.1", NORM_EPSILON)
