"""For TensorRT, whose oldest version of interest has no operator for any of it: only primitive ones.

The cache is read and rows leave as one block, which a single strided copy puts behind the past: rows lie one behind the
other in the cache, (1, P, kv heads, head_dim), so that the beginning of a long one is a short one. Past and new rows
are joined, and attention is the usual pattern over both: TensorRT's builder makes one kernel of joining, RoPE and
attention, and copies nothing. With a product for each it made four, and transposed the whole cache for them. Where
float16 flows, RMSNorm and RoPE are float32 between explicit casts, because squares leave its range and a strongly typed
network casts nothing by itself; queries are scaled before the product, which keeps scores small and is what attention
kernels expect. A row that means nothing goes through all products in front of the others (`buckets.py` says why);
attention leaves it out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from onnx import TensorProto

from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.engines.stages import ATTENTION_MASK, CACHE_PARTS, NEW_ROWS, ROPE_COS, ROPE_SIN, past
from mobilevlm.engines.tensorrt.buckets import SPARE_ROWS

from ..split.graph import Graph
from ..split.kv_cache import CacheForm
from .qnn import END, quick_gelu, silu, vision_attention

__all__ = ["add_norm", "attention", "declare_inputs", "last_position", "norm", "quick_gelu", "silu", "vision_attention"]


@dataclass
class Piece:
    """Layers that are written into a graph, and the rows for the cache that they have made so far."""

    layers: range
    new_rows: list[str] = field(default_factory=list)


def norm(graph: Graph, x: str, weight: str, epsilon: float) -> str:
    """Writes RMSNorm, in float32 whatever flows.

    Args:
        graph: receives nodes and weights.
        x: name of the input, (1, S, D).
        weight: name of the gain in the checkpoint, (D,).
        epsilon: added to the mean square.

    Returns:
        Name of the output, (1, S, D).
    """
    x = graph.wide(x)
    last = graph.once("last axis", lambda: graph.constant(np.array([-1])))
    least = graph.once("epsilon", lambda: graph.initializer("rms_norm.epsilon", np.array(epsilon, np.float32)))
    mean = graph.op("ReduceMean", graph.op("Mul", x, x), last, keepdims=1)
    x = graph.op("Div", x, graph.op("Sqrt", graph.op("Add", mean, least)))
    return graph.op("Mul", graph.narrow(x), graph.weight(weight))


def add_norm(graph: Graph, x: str, residual: str, weight: str, epsilon: float) -> tuple[str, str]:
    """Writes the RMSNorm of `x + residual`.

    Args:
        graph: receives nodes and weights.
        x: name of the input, (1, S, D).
        residual: name of what is added, (1, S, D).
        weight: name of the gain in the checkpoint, (D,).
        epsilon: added to the mean square.

    Returns:
        Names of the norm and of the sum, (1, S, D) each.
    """
    total = graph.op("Add", x, residual)
    return norm(graph, total, weight, epsilon), total


def last_position(graph: Graph, x: str) -> str:
    """Writes the selection of the last row.

    Args:
        graph: receives nodes and weights.
        x: name of the input, (1, S, D).

    Returns:
        Name of the output, (1, 1, D).
    """
    return _cut(graph, x, -1, END, 1)


def declare_inputs(graph: Graph, config: ModelConfig, cache: CacheForm, rows: str, layers: range) -> Piece:
    """Declares the inputs, 1 + S rows of them, and the block of S new rows of decoder layers.

    Args:
        graph: receives nodes and weights.
        config: the model.
        cache: the kv cache.
        rows: name of the first input, `inputs_embeds` or `hidden_states`.
        layers: of the decoder, in this graph.

    Returns:
        The layers, and the rows for the cache that they make.
    """
    kv_heads, dim = config.num_key_value_heads, config.head_dim
    graph.input(rows, graph.kind, [1, "sequence", config.hidden_size])
    graph.input(ATTENTION_MASK, graph.kind, [1, 1, "new", "columns"])
    for name in (ROPE_COS, ROPE_SIN):
        graph.input(name, TensorProto.FLOAT, [1, "new", 1, dim])
    for layer in layers:
        for part in CACHE_PARTS:
            graph.input(past(layer, part), graph.kind, [1, "past", kv_heads, dim])
    graph.output(NEW_ROWS, graph.kind, [len(CACHE_PARTS) * len(layers), "new", kv_heads * dim])
    return Piece(layers)


def attention(graph: Graph, x: str, layer: int, config: ModelConfig, cache: CacheForm, piece: Piece) -> str:
    """Writes causal attention of rows, without the spare one, to themselves and to the cache.

    Args:
        graph: receives nodes and weights.
        x: name of the input, (1, 1 + S, D).
        layer: of the decoder.
        config: the model.
        cache: the kv cache.
        piece: what `declare_inputs` returned.

    Returns:
        (1, 1 + S, H * Dh).
    """
    heads, kv_heads, dim = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    rows = graph.linear(x, *(f"model.layers.{layer}.self_attn.{part}_proj" for part in "qkv"))
    spare = graph.once("spare rows", lambda: graph.constant(np.zeros((1, SPARE_ROWS, heads * dim))))
    rows = _reshape(graph, _cut(graph, rows, SPARE_ROWS, END, 1), [1, -1, heads + 2 * kv_heads, dim])
    turned = _rotate(graph, _cut(graph, rows, 0, heads + kv_heads, 2), dim)
    query = graph.op("Mul", _cut(graph, turned, 0, heads, 2), _scale(graph, dim))
    query, key = graph.narrow(query), graph.narrow(_cut(graph, turned, heads, END, 2))
    value = _cut(graph, rows, heads + kv_heads, END, 2)
    piece.new_rows += [_reshape(graph, part, [1, -1, kv_heads * dim]) for part in (key, value)]
    if layer + 1 == piece.layers.stop:
        graph.op("Concat", *piece.new_rows, axis=0, out=NEW_ROWS)
    # Query heads that read the same keys become rows of one head.
    query = _grouped(graph, graph.op("Transpose", query, perm=[0, 2, 1, 3]), config)
    both = zip(CACHE_PARTS, (key, value), strict=True)
    keys, values = (graph.op("Concat", past(layer, part), new, axis=1) for part, new in both)
    scores = graph.op("MatMul", query, graph.op("Transpose", keys, perm=[0, 2, 3, 1]))
    if kv_heads < heads:
        scores = _reshape(graph, scores, [1, heads, -1, 0])
    weights = graph.op("Softmax", graph.op("Add", scores, ATTENTION_MASK), axis=-1)
    weights = _grouped(graph, weights, config)
    mixed = graph.op("MatMul", weights, graph.op("Transpose", values, perm=[0, 2, 1, 3]))
    if kv_heads < heads:
        mixed = _reshape(graph, mixed, [1, heads, -1, dim])
    mixed = _reshape(graph, graph.op("Transpose", mixed, perm=[0, 2, 1, 3]), [1, -1, heads * dim])
    return graph.op("Concat", spare, mixed, axis=1)


def _rotate(graph: Graph, x: str, dim: int) -> str:
    """RoPE of (1, S, H, Dh), float32: the second table has the sign that the swapped halves need."""
    x = graph.wide(x)
    halves = [_cut(graph, x, dim // 2, END, 3), _cut(graph, x, 0, dim // 2, 3)]
    across = graph.op("Mul", graph.op("Concat", *halves, axis=-1), ROPE_SIN)
    return graph.op("Add", graph.op("Mul", x, ROPE_COS), across)


def _scale(graph: Graph, dim: int) -> str:
    """Factor of float32 queries: float16 has it only roughly."""
    value = np.array(dim**-0.5, np.float32)
    return graph.once("scale", lambda: graph.initializer("attention.scale", value))


def _grouped(graph: Graph, x: str, config: ModelConfig) -> str:
    """Reshapes (1, H, S, n) to (1, kv heads, H / kv heads * S, n)."""
    if config.num_key_value_heads == config.num_attention_heads:
        return x
    return _reshape(graph, x, [1, config.num_key_value_heads, -1, 0])


def _reshape(graph: Graph, x: str, shape: list[int]) -> str:
    return graph.op("Reshape", x, graph.once(f"shape.{shape}", lambda: graph.constant(np.array(shape))))


def _index(graph: Graph, at: int) -> str:
    return graph.once(f"index.{at}", lambda: graph.constant(np.array([at])))


def _cut(graph: Graph, x: str, start: int, stop: int, axis: int) -> str:
    return graph.op("Slice", x, *(_index(graph, at) for at in (start, stop, axis)))
