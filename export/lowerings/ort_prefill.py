"""For ONNX Runtime on a CPU, many rows at a time beside a decoder of the `ort` lowering with an int8 cache.

The past is read and new rows are handed out, which the runtime puts behind it. Rows attend to each other in float32,
which is quicker than `GroupQueryAttention` on an int8 cache.
Operators: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.engines.stages import CACHE_PARTS, PAST_LENGTH, new_rows, past

from ..split.graph import ORT_DOMAIN, Graph
from ..split.kv_cache import CacheForm
from .ort import add_norm, last_position, norm, rope, silu

__all__ = ["add_norm", "attention", "declare_inputs", "last_position", "norm", "silu"]

FLOAT, INT8, INT64 = TensorProto.FLOAT, TensorProto.INT8, TensorProto.INT64


def declare_inputs(graph: Graph, config: ModelConfig, cache: CacheForm, rows: str, layers: range) -> list[str]:
    """Declares the inputs and new rows of decoder layers.

    Args:
        graph: receives nodes and weights.
        config: the model.
        cache: the kv cache.
        rows: name of the first input, `inputs_embeds` or `hidden_states`.
        layers: of the decoder, in this graph.

    Returns:
        Names of RoPE's tables of cosines and sines.
    """
    graph.input(rows, FLOAT, [1, "sequence", config.hidden_size])
    graph.input(PAST_LENGTH, INT64, [1])
    width = config.num_key_value_heads * config.head_dim
    for layer in layers:
        for part in CACHE_PARTS:
            graph.input(past(layer, part), INT8, [1, config.num_key_value_heads, "past", config.head_dim])
            graph.output(new_rows(layer, part), INT8, [1, "sequence", width])
    return rope(graph, config, cache.rows)


def attention(graph: Graph, x: str, layer: int, config: ModelConfig, cache: CacheForm, tables: list[str]) -> str:
    """Writes causal attention of rows to themselves and to the past.

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
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    query, key, value = (graph.linear(x, f"model.layers.{layer}.self_attn.{part}_proj") for part in "qkv")
    query = _rotate(graph, query, tables, heads)
    key = _rotate(graph, key, tables, kv_heads)
    before = []
    for part, rows in zip(CACHE_PARTS, (key, value), strict=True):
        quantize_rows(graph, rows, cache, layer, part)
        codes = graph.op("Cast", past(layer, part), to=FLOAT)
        before.append(graph.op("Mul", codes, cache_scale(graph, config, cache, layer, part)))
    if kv_heads < heads:
        key, value = (_spread(graph, rows, config) for rows in (key, value))
        before = [graph.op("Gather", rows, head_of_query(graph, config), axis=1) for rows in before]
    inputs = [query, key, value, "", "", "", *before]
    outputs = [graph.fresh(name) for name in ("attention", "all.key", "all.value")]
    return graph.ops("MultiHeadAttention", inputs, outputs, ORT_DOMAIN, num_heads=heads, unidirectional=1)[0]


def _rotate(graph: Graph, rows: str, tables: list[str], heads: int) -> str:
    """RoPE, from the position behind the past on."""
    return graph.op("RotaryEmbedding", rows, PAST_LENGTH, *tables, domain=ORT_DOMAIN, num_heads=heads)


def quantize_rows(graph: Graph, rows: str, cache: CacheForm, layer: int, part: str) -> None:
    """Adds the output of a layer's new keys or values, quantised to int8.

    One scale for each channel is slow in QuantizeLinear where channels lie side by side.

    Args:
        graph: receives it.
        rows: name of the rows, (1, S, kv heads * head_dim).
        cache: the int8 cache.
        layer: of the decoder.
        part: `key` or `value`.
    """
    one = graph.once("cache.one", lambda: graph.constant(np.array(1, np.float32)))
    zero = graph.once("cache.zero", lambda: graph.constant(np.array(0, np.int8)))
    rows = graph.op("Mul", rows, graph.constant(1 / cache.int8_scale(layer, part)))
    graph.op("QuantizeLinear", rows, one, zero, out=new_rows(layer, part))


def cache_scale(graph: Graph, config: ModelConfig, cache: CacheForm, layer: int, part: str) -> str:
    """Adds the dequantisation scale of a layer's cached keys or values.

    Args:
        graph: receives it.
        config: the model.
        cache: the int8 cache.
        layer: of the decoder.
        part: `key` or `value`.

    Returns:
        Its name, (1, kv heads, 1, head_dim) float32.
    """
    scale = cache.int8_scale(layer, part).reshape(1, config.num_key_value_heads, 1, config.head_dim)
    return graph.initializer(f"cache.{layer}.{part}", scale)


def head_of_query(graph: Graph, config: ModelConfig) -> str:
    """Adds the key and value head that each query head reads.

    Args:
        graph: receives nodes and weights.
        config: the model.

    Returns:
        Name of the indices, (H,) int64.
    """
    readers = config.num_attention_heads // config.num_key_value_heads
    return graph.once("spread", lambda: graph.constant(np.arange(config.num_attention_heads) // readers))


def _spread(graph: Graph, rows: str, config: ModelConfig) -> str:
    """Each key or value head once for every query head that reads it."""
    heads, dim = config.num_attention_heads, config.head_dim
    channels = np.arange(heads)[:, None] // (heads // config.num_key_value_heads) * dim + np.arange(dim)
    return graph.op("Gather", rows, graph.once("spread.channels", lambda: graph.constant(channels.flatten())), axis=2)
