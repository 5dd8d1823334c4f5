"""For NPUs and other runtimes that know neither `GroupQueryAttention` nor a shape that changes.

The cache is only read; new rows are handed out, and the runtime writes them behind the past (`engines/chunks.py`). Keys
lie transposed in it, as the product with a query reads them, and nothing is joined to the past but scores: the cache is
never copied. How many rows run at a time is left open here: graphs for many and for one are the same operators, with
other sizes written into their inputs and outputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto

from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.engines.chunks import cache_shape
from mobilevlm.engines.stages import ATTENTION_MASK, CACHE_PARTS, ROPE_COS, ROPE_SIN, new_rows, past

from ..split.graph import Graph
from ..split.kv_cache import CacheForm
from .ort import last_position

__all__ = ["add_norm", "attention", "declare_inputs", "last_position", "norm", "quick_gelu", "silu", "vision_attention"]

FLOAT = TensorProto.FLOAT
END = 2**31 - 1  # of whatever is sliced


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
    query, key, value = (split(graph, graph.linear(x, layer), heads, width // heads) for layer in layers)
    scores = graph.op("MatMul", scaled(graph, query, width // heads), graph.op("Transpose", key, perm=[0, 1, 3, 2]))
    return join(graph, graph.op("MatMul", graph.op("Softmax", scores, axis=-1), value), width)


def quick_gelu(graph: Graph, x: str) -> str:
    """Writes CLIP's activation, `x * sigmoid(1.702 x)`.

    Args:
        graph: receives nodes and weights.
        x: name of the input.

    Returns:
        Name of the output, of the input's shape.
    """
    steep = graph.op("Mul", x, graph.once("quick_gelu", lambda: graph.constant(np.array(1.702, np.float32))))
    return graph.op("Mul", x, graph.op("Sigmoid", steep))


def silu(graph: Graph, x: str) -> str:
    """Writes `x * sigmoid(x)`.

    Args:
        graph: receives nodes and weights.
        x: name of the input.

    Returns:
        Name of the output, of the input's shape.
    """
    return graph.op("Mul", x, graph.op("Sigmoid", x))


def norm(graph: Graph, x: str, weight: str, epsilon: float) -> str:
    """Writes RMSNorm as one operator: its squares have no range of their own that one huge token would take.

    Args:
        graph: receives nodes and weights.
        x: name of the input, (1, S, D).
        weight: name of the gain in the checkpoint, (D,).
        epsilon: added to the mean square.

    Returns:
        Name of the output, (1, S, D).
    """
    return graph.op("RMSNormalization", x, graph.weight(weight), axis=-1, epsilon=epsilon)


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


def declare_inputs(graph: Graph, config: ModelConfig, cache: CacheForm, rows: str, layers: range) -> list[str]:
    """Declares the inputs and new rows of decoder layers.

    Args:
        graph: receives nodes and weights.
        config: the model.
        cache: the kv cache.
        rows: name of the first input, `inputs_embeds` or `hidden_states`.
        layers: of the decoder, in this graph.

    Returns:
        Names of RoPE's inputs, cosines and sines.
    """
    graph.input(rows, FLOAT, [1, "sequence", config.hidden_size])
    graph.input(ATTENTION_MASK, FLOAT, [1, 1, "sequence", "columns"])
    tables = [graph.input(name, FLOAT, [1, 1, "sequence", config.head_dim]) for name in (ROPE_COS, ROPE_SIN)]
    for layer in layers:
        for part in CACHE_PARTS:
            graph.input(past(layer, part), FLOAT, list(cache_shape(config, part, cache.rows)))
            graph.output(new_rows(layer, part), FLOAT, list(cache_shape(config, part, "sequence")))
    return tables


def attention(graph: Graph, x: str, layer: int, config: ModelConfig, cache: CacheForm, tables: list[str]) -> str:
    """Writes causal attention of rows to themselves and to the cache.

    Args:
        graph: receives nodes and weights.
        x: name of the input, (1, S, D).
        layer: of the decoder.
        config: the model.
        cache: the kv cache.
        tables: what `declare_inputs` returned.

    Returns:
        Name of the output, (1, S, H * Dh).
    """
    heads, kv_heads, dim = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    query, key, value = (graph.linear(x, f"model.layers.{layer}.self_attn.{part}_proj") for part in "qkv")
    query = scaled(graph, _rotate(graph, split(graph, query, heads, dim), tables, dim), dim)
    key = _rotate(graph, split(graph, key, kv_heads, dim), tables, dim)
    key = graph.op("Transpose", key, perm=[0, 1, 3, 2], out=new_rows(layer, "key"))
    value = graph.op("Transpose", apart(graph, value, kv_heads, dim), perm=[0, 2, 1, 3], out=new_rows(layer, "value"))
    # Query heads that read the same keys become rows of one head; a 0 keeps the size there is.
    query = reshape(graph, query, [1, kv_heads, -1, dim])
    scores = graph.op("Concat", *(graph.op("MatMul", query, keys) for keys in (past(layer, "key"), key)), axis=-1)
    scores = reshape(graph, scores, [1, heads, -1, 0])
    weights = graph.op("Softmax", graph.op("Add", scores, ATTENTION_MASK), axis=-1)
    weights = reshape(graph, weights, [1, kv_heads, -1, 0])
    before = graph.op("MatMul", columns(graph, weights, 0, cache.rows), past(layer, "value"))
    among = graph.op("MatMul", columns(graph, weights, cache.rows, END), value)
    return join(graph, reshape(graph, graph.op("Add", before, among), [1, heads, -1, dim]), heads * dim)


def _rotate(graph: Graph, x: str, tables: list[str], dim: int) -> str:
    """RoPE of (1, H, S, Dh): the second table has the sign that the turned halves need."""
    halves = [columns(graph, x, dim // 2, END), columns(graph, x, 0, dim // 2)]
    across = graph.op("Mul", graph.op("Concat", *halves, axis=-1), tables[1])
    return graph.op("Add", graph.op("Mul", x, tables[0]), across)


def scaled(graph: Graph, query: str, dim: int) -> str:
    """Scales queries by 1 / sqrt(Dh).

    Args:
        graph: receives nodes and weights.
        query: name of the queries, (1, H, S, Dh).
        dim: Dh.

    Returns:
        Name of the scaled queries.
    """
    scale = graph.once("attention.scale", lambda: graph.constant(np.array(dim**-0.5, np.float32)))
    return graph.op("Mul", query, scale)


def split(graph: Graph, x: str, heads: int, dim: int) -> str:
    """Splits rows into heads.

    Args:
        graph: receives nodes and weights.
        x: name of the input, (1, S, H * Dh).
        heads: H.
        dim: Dh.

    Returns:
        Name of the output, (1, H, S, Dh).
    """
    return graph.op("Transpose", apart(graph, x, heads, dim), perm=[0, 2, 1, 3])


def apart(graph: Graph, x: str, heads: int, dim: int) -> str:
    """Splits the last axis of rows into heads.

    Args:
        graph: receives nodes and weights.
        x: name of the input, (1, S, H * Dh).
        heads: H.
        dim: Dh.

    Returns:
        Name of the output, (1, S, H, Dh).
    """
    return reshape(graph, x, [1, -1, heads, dim])


def join(graph: Graph, x: str, width: int) -> str:
    """Joins heads into rows.

    Args:
        graph: receives nodes and weights.
        x: name of the input, (1, H, S, Dh).
        width: H * Dh.

    Returns:
        Name of the output, (1, S, H * Dh).
    """
    return reshape(graph, graph.op("Transpose", x, perm=[0, 2, 1, 3]), [1, -1, width])


def reshape(graph: Graph, x: str, shape: list[int]) -> str:
    """Writes a Reshape.

    Args:
        graph: receives nodes and weights.
        x: name of the input.
        shape: with -1 for the size that follows from the others, 0 for the size there is.

    Returns:
        Name of the output.
    """
    return graph.op("Reshape", x, graph.once(f"shape.{shape}", lambda: graph.constant(np.array(shape))))


def columns(graph: Graph, x: str, start: int, stop: int) -> str:
    """Slices the last axis.

    Args:
        graph: receives nodes and weights.
        x: name of the input.
        start: first index.
        stop: index behind the last, `END` for all.

    Returns:
        Name of the output.
    """
    return graph.op("Slice", x, *(_index(graph, at) for at in (start, stop, -1)))


def _index(graph: Graph, at: int) -> str:
    return graph.once(f"index.{at}", lambda: graph.constant(np.array([at])))
