"""For TensorRT since 10.16: its operators for norm, RoPE and attention, and a kv cache that is updated in place.

`TensorScatter` writes new rows into the cache, which has to be an input and an output of the graph at one address, of a
size that is known. `Attention` gets a mask, because its own idea of causal begins at the first row of the cache, and
may be taken apart where there is no kernel for it; queries are scaled before it, as in `strided`.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from mobilevlm.config import ModelConfig
from mobilevlm.engines.stages import (
    ATTENTION_MASK,
    CACHE_PARTS,
    LAST_ROW,
    ROPE_COS,
    ROPE_SIN,
    WRITE_INDICES,
    past,
    present,
)

from ..cache import CacheForm
from ..graph import Graph
from .delta import silu
from .strided import scale

__all__ = ["add_norm", "attention", "declare_inputs", "last_position", "norm", "silu"]


def norm(graph: Graph, x: str, weight: str, epsilon: float) -> str:
    """RMSNorm, whose squares are float32."""
    weight = graph.weight(weight)
    return graph.op("RMSNormalization", x, weight, axis=-1, epsilon=epsilon, stash_type=TensorProto.FLOAT)


def add_norm(graph: Graph, x: str, residual: str, weight: str, epsilon: float) -> tuple[str, str]:
    """The RMSNorm of `x + residual`, and that sum."""
    total = graph.op("Add", x, residual)
    return norm(graph, total, weight, epsilon), total


def last_position(graph: Graph, x: str) -> str:
    """The row of (1, S, D) ones that is asked for."""
    return graph.op("Gather", x, LAST_ROW, axis=1)


def declare_inputs(graph: Graph, config: ModelConfig, cache: CacheForm, rows: str, layers: range) -> list[str]:
    """Declare the inputs (`rows` is the first's name) and cache outputs of decoder layers; return RoPE's tables."""
    graph.input(rows, graph.kind, [1, "sequence", config.hidden_size])
    graph.input(ATTENTION_MASK, graph.kind, [1, 1, "sequence", cache.rows])
    tables = [graph.input(name, graph.kind, [1, "sequence", config.head_dim // 2]) for name in (ROPE_COS, ROPE_SIN)]
    graph.input(WRITE_INDICES, TensorProto.INT64, [1])
    if layers.stop == config.num_hidden_layers:
        graph.input(LAST_ROW, TensorProto.INT64, [1])
    shape = [1, config.num_key_value_heads, cache.rows, config.head_dim]
    for layer in layers:
        for part in CACHE_PARTS:
            graph.input(past(layer, part), graph.kind, shape)
            graph.output(present(layer, part), graph.kind, shape)
    return tables


def attention(graph: Graph, x: str, layer: int, config: ModelConfig, cache: CacheForm, tables: list[str]) -> str:
    """Causal attention of (1, S, D) rows to themselves and the cache, which they are written into; (1, S, H * Dh)."""
    heads, kv_heads, dim = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    rows = graph.linear(x, *(f"model.layers.{layer}.self_attn.{part}_proj" for part in "qkv"))
    rows = _reshape(graph, rows, [1, -1, heads + 2 * kv_heads, dim])
    rows = graph.op("Transpose", rows, perm=[0, 2, 1, 3])
    turned = graph.op("RotaryEmbedding", _heads(graph, rows, 0, heads + kv_heads), *tables)
    query = graph.op("Mul", graph.wide(_heads(graph, turned, 0, heads)), scale(graph, dim))
    parts = _heads(graph, turned, heads, heads + kv_heads), _heads(graph, rows, heads + kv_heads, heads + 2 * kv_heads)
    kept = [
        graph.op("TensorScatter", past(layer, part), new, WRITE_INDICES, axis=-2, out=present(layer, part))
        for part, new in zip(CACHE_PARTS, parts, strict=True)
    ]
    mixed = graph.op("Attention", graph.narrow(query), *kept, ATTENTION_MASK, scale=1.0, TRT_decomposable=1)
    return _reshape(graph, graph.op("Transpose", mixed, perm=[0, 2, 1, 3]), [1, -1, heads * dim])


def _heads(graph: Graph, x: str, start: int, stop: int) -> str:
    bounds = [graph.once(f"index.{at}", lambda at=at: graph.constant(np.array([at]))) for at in (start, stop, 1)]
    return graph.op("Slice", x, *bounds)


def _reshape(graph: Graph, x: str, shape: list[int]) -> str:
    return graph.op("Reshape", x, graph.once(f"shape.{shape}", lambda: graph.constant(np.array(shape))))
