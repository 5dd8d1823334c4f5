"""`ort_prefill`, and the vision stage, in the standard operators that OpenVINO makes fast kernels of.

Attention is written out: its compiler makes one kernel of two products and the softmax between them, and one of RoPE in
the form below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.engines.stages import CACHE_PARTS, PAST_LENGTH, past

from ..split.graph import Graph
from ..split.kv_cache import CacheForm
from . import ort_prefill
from .ort import last_position
from .qnn import END, columns, join, quick_gelu, scaled, silu, split
from .tensorrt_delta import add_norm, norm

__all__ = ["add_norm", "attention", "declare_inputs", "last_position", "norm", "quick_gelu", "silu", "vision_attention"]

NEVER = -1e9  # added to a score whose key comes later


@dataclass(frozen=True)
class Positions:
    """Tensors that depend on the rows' positions: RoPE's tables (1, 1, S, Dh), and the mask (1, 1, S, P + S)."""

    cos: str
    sin: str
    mask: str


def vision_attention(graph: Graph, x: str, layers: Sequence[str], heads: int, width: int) -> str:
    """Writes bidirectional attention of (1, P, H) rows to themselves.

    One product makes all three, which are told apart behind the move that each needs anyhow.

    Args:
        graph: receives nodes and weights.
        x: name of the input, (1, P, H).
        layers: checkpoint layers of query, key and value, without `.weight`.
        heads: of the tower.
        width: of all heads together, H.

    Returns:
        Name of the output, (1, P, H).
    """
    dim = width // heads
    shape = graph.once("qkv", lambda: graph.constant(np.array([1, -1, len(layers), heads, dim])))
    qkv = graph.op("Transpose", graph.op("Reshape", graph.linear(x, *layers), shape), perm=[2, 0, 3, 1, 4])
    query, key, value = (graph.op("Gather", qkv, _index(graph, part), axis=0) for part in range(len(layers)))
    scores = graph.op("MatMul", scaled(graph, query, dim), graph.op("Transpose", key, perm=[0, 1, 3, 2]))
    return join(graph, graph.op("MatMul", graph.op("Softmax", scores, axis=-1), value), width)


def declare_inputs(graph: Graph, config: ModelConfig, cache: CacheForm, rows: str, layers: range) -> Positions:
    """Declares the inputs and new rows of decoder layers, and works out the positions.

    Args:
        graph: receives nodes and weights.
        config: the model.
        cache: the kv cache.
        rows: name of the first input, `inputs_embeds` or `hidden_states`.
        layers: of the decoder, in this graph.

    Returns:
        What depends on where rows stand.
    """
    cos, sin = ort_prefill.declare_inputs(graph, config, cache, rows, layers)
    stop = graph.op("Add", PAST_LENGTH, graph.op("Shape", rows, start=1, end=2))
    here, axes = (PAST_LENGTH, stop), [graph.constant(np.array([axis])) for axis in (0, 1)]
    # The tables hold an angle for two channels, half a head apart.
    tables = [graph.op("Slice", table, *here, axes[0]) for table in (cos, sin)]
    tables = [graph.op("Unsqueeze", graph.op("Concat", table, table, axis=1), _first_two(graph)) for table in tables]
    zero, one = (graph.constant(np.array(number)) for number in (0, 1))
    keys = graph.op("Range", zero, graph.op("Squeeze", stop, axes[0]), one)
    queries = graph.op("Unsqueeze", graph.op("Slice", keys, *here, axes[0]), axes[1])
    added = [graph.constant(np.array(number)) for number in (NEVER, 0.0)]
    mask = graph.op("Where", graph.op("Greater", keys, queries), *added)
    return Positions(tables[0], tables[1], graph.op("Unsqueeze", mask, _first_two(graph)))


def attention(graph: Graph, x: str, layer: int, config: ModelConfig, cache: CacheForm, at: Positions) -> str:
    """Writes causal attention of rows to themselves and to the past.

    Args:
        graph: receives nodes and weights.
        x: name of the input, (1, S, D).
        layer: of the decoder.
        config: the model.
        cache: the kv cache.
        at: what `declare_inputs` returned.

    Returns:
        Name of the output, (1, S, H * Dh).
    """
    heads, kv_heads, dim = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    query, key, value = (graph.linear(x, f"model.layers.{layer}.self_attn.{part}_proj") for part in "qkv")
    query, key = (_rotate(graph, split(graph, rows, n, dim), at, dim) for rows, n in ((query, heads), (key, kv_heads)))
    parts = []
    for part, rows in zip(CACHE_PARTS, (key, split(graph, value, kv_heads, dim)), strict=True):
        ort_prefill.quantize_rows(graph, join(graph, rows, kv_heads * dim), cache, layer, part)
        before = graph.op("Cast", past(layer, part), to=TensorProto.FLOAT)
        before = graph.op("Mul", before, ort_prefill.cache_scale(graph, config, cache, layer, part))
        rows = graph.op("Concat", before, rows, axis=2)
        if kv_heads < heads:
            rows = graph.op("Gather", rows, ort_prefill.head_of_query(graph, config), axis=1)
        parts.append(rows)
    keys, values = graph.op("Transpose", parts[0], perm=[0, 1, 3, 2]), parts[1]
    scores = graph.op("Add", graph.op("MatMul", scaled(graph, query, dim), keys), at.mask)
    return join(graph, graph.op("MatMul", graph.op("Softmax", scores, axis=-1), values), heads * dim)


def _rotate(graph: Graph, x: str, at: Positions, dim: int) -> str:
    """RoPE of (1, H, S, Dh)."""
    minus = graph.once("minus", lambda: graph.constant(np.array(-1.0)))
    turned = [graph.op("Mul", columns(graph, x, dim // 2, END), minus), columns(graph, x, 0, dim // 2)]
    across = graph.op("Mul", graph.op("Concat", *turned, axis=-1), at.sin)
    return graph.op("Add", graph.op("Mul", x, at.cos), across)


def _index(graph: Graph, at: int) -> str:
    return graph.once(f"index.{at}", lambda: graph.scalar(f"index.{at}", np.int64(at)))


def _first_two(graph: Graph) -> str:
    return graph.once("first two axes", lambda: graph.constant(np.array([0, 1])))
