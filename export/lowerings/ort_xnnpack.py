"""`ort` for a target with XNNPACK: an image's queries, keys and values get their biases from their own layers.

XNNPACK takes no product of three dimensions, but ONNX Runtime turns a product of fixed sizes with a bias added to it
into a `Gemm` of two before it asks (core/optimizer/matmul_add_fusion.cc), which XNNPACK does take. With the biases in
the attention, as `ort` has them, half of the vision tower's products would stay behind: `xnnpack_coverage.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..split.graph import ORT_DOMAIN, Graph
from .ort import add_norm, attention, declare_inputs, last_position, norm, quick_gelu, silu

__all__ = ["add_norm", "attention", "declare_inputs", "last_position", "norm", "quick_gelu", "silu", "vision_attention"]


def vision_attention(graph: Graph, x: str, layers: Sequence[str], heads: int, width: int) -> str:
    """Writes bidirectional attention of (1, P, H) rows to themselves.

    Args:
        graph: receives nodes and weights.
        x: name of the input, (1, P, H).
        layers: checkpoint layers of query, key and value, without `.weight`.
        heads: of the tower.
        width: of all heads together, H.

    Returns:
        Name of the output, (1, P, H).
    """
    qkv = [graph.linear(x, layer) for layer in layers]
    return graph.op("MultiHeadAttention", *qkv, domain=ORT_DOMAIN, num_heads=heads)
