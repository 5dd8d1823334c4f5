"""`ldpnetv2` (MobileVLM V2): two linears, average pooling to 12x12 tokens, a depthwise position encoding with residual.

Source: MobileVLM V2 (arXiv 2402.03766), figure 3, and the published weights' names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...checkpoint.config import ConfigError, ModelConfig
from . import PREFIX, Graph

if TYPE_CHECKING:
    import torch
    from torch import nn

SIDE = 12  # tokens per side, whatever the image's grid


def num_tokens(config: ModelConfig) -> int:
    """Image tokens per image: the same for every grid."""
    return SIDE * SIDE


def operations(config: ModelConfig) -> int:
    """Operations of the first linear on all patches and of the second on what pooling leaves."""
    first = config.num_patches * config.mm_hidden_size * config.hidden_size
    return 2 * (first + SIDE * SIDE * config.hidden_size**2)


def num_weights(config: ModelConfig) -> int:
    """Weights of the two linears."""
    return config.mm_hidden_size * config.hidden_size + config.hidden_size**2


def module(config: ModelConfig) -> nn.Module:
    """(B, grid*grid, mm_hidden_size) to (B, 144, hidden_size) in PyTorch."""
    from torch import nn

    class Features(nn.Module):
        def __init__(self, in_dim: int, out_dim: int):
            super().__init__()
            self.mlp = nn.Sequential(nn.Linear(in_dim, out_dim), nn.GELU(), nn.Linear(out_dim, out_dim))

    class PositionEncoding(nn.Module):
        def __init__(self, dim: int):
            super().__init__()
            self.peg = nn.Sequential(nn.Conv2d(dim, dim, 3, padding=1, groups=dim))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mlp = Features(config.mm_hidden_size, config.hidden_size)
            self.peg = PositionEncoding(config.hidden_size)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.mlp.mlp(x)
            batch, patches, dim = x.shape
            grid = int(patches**0.5)
            if grid * grid != patches:
                raise ConfigError(f"ldpnetv2 needs a square grid of patches, got {patches}")
            image = x.transpose(1, 2).reshape(batch, dim, grid, grid)
            image = nn.functional.adaptive_avg_pool2d(image, SIDE)
            image = self.peg.peg(image) + image
            return image.flatten(2).transpose(1, 2)

    return Net()


def to_onnx(graph: Graph, x: str, config: ModelConfig) -> str:
    """Writes the projector into a graph; pooling comes before the second linear, which it commutes with.

    Args:
        graph: to write into.
        x: name of the patch features, (1, grid*grid, mm_hidden_size).
        config: the model.
    """
    dim = config.hidden_size
    x = graph.op("Gelu", graph.linear(x, f"{PREFIX}mlp.mlp.0"))
    x = graph.linear(_pool(graph, x, config.tower.grid, dim), f"{PREFIX}mlp.mlp.2")
    image = graph.op("Transpose", x, perm=[0, 2, 1])
    image = graph.op("Reshape", image, graph.constant(np.array([1, dim, SIDE, SIDE])))
    weights = [graph.weight(f"{PREFIX}peg.peg.0.{part}") for part in ("weight", "bias")]
    encoded = graph.op("Conv", image, *weights, kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=dim)
    image = graph.op("Add", encoded, image)
    x = graph.op("Reshape", image, graph.constant(np.array([1, dim, SIDE * SIDE])))
    return graph.op("Transpose", x, perm=[0, 2, 1])


def _pool(graph: Graph, x: str, grid: int, dim: int) -> str:
    if grid % SIDE:  # bins overlap or repeat: a constant matrix of means; on the right, where NPUs take constants
        x = graph.op("MatMul", graph.op("Transpose", x, perm=[0, 2, 1]), graph.constant(pooling_matrix(grid).T))
        return graph.op("Transpose", x, perm=[0, 2, 1])
    bin_ = grid // SIDE
    # First rows, then columns: no tensor of more dimensions than any runtime takes.
    for bins in ([SIDE, bin_, SIDE * bin_ * dim], [SIDE * SIDE, bin_, dim]):
        x = graph.op("Reshape", x, graph.constant(np.array(bins)))
        x = graph.op("ReduceMean", x, graph.constant(np.array([1])), keepdims=0)
    return graph.op("Reshape", x, graph.constant(np.array([1, SIDE * SIDE, dim])))


def pooling_matrix(grid: int) -> np.ndarray:
    """Adaptive average pooling of a grid x grid image to 12 x 12 as a float32 matrix (144, grid*grid).

    Bin i of an axis is the mean over [floor(i*grid/12), ceil((i+1)*grid/12)), as in PyTorch.
    """
    axis = np.zeros((SIDE, grid), np.float32)
    for i in range(SIDE):
        start, stop = i * grid // SIDE, -(-(i + 1) * grid // SIDE)
        axis[i, start:stop] = 1 / (stop - start)
    return np.kron(axis, axis)
