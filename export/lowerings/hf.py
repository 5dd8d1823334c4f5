"""For ONNX files as the Hugging Face hub has them: ONNX's own operators, and the inputs that its libraries give.

These are `attention_mask` of past and new tokens, `position_ids` of the new ones, and a past that each call hands back
longer by the new rows. Prompts of a batch may be padded on either side.
https://huggingface.co/docs/optimum-onnx/onnx/usage_guides/export_a_model
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.engines.stages import ATTENTION_MASK, CACHE_PARTS, LOGITS, past, present

from ..split.graph import Graph
from ..split.kv_cache import CacheForm
from .ort import last_position, rope
from .qnn import quick_gelu, reshape, silu, vision_attention
from .tensorrt_delta import add_norm, norm

__all__ = ["add_norm", "attention", "declare_inputs", "last_position", "norm", "quick_gelu", "silu", "vision_attention"]

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
POSITION_IDS = "position_ids"
BATCH, SEQUENCE = "batch_size", "sequence_length"
PAST, TOTAL = "past_sequence_length", "total_sequence_length"
POSITIONS = (BATCH, SEQUENCE)
MASKED = -1e9  # added to the score of a key that is not read: finite, so that a row of padding has no 0 / 0


def declare_inputs(graph: Graph, config: ModelConfig, cache: CacheForm, rows: str, layers: range) -> list[str]:
    """Declares the inputs and outputs of decoder layers, logits first, and writes what all of the layers share.

    Args:
        graph: receives nodes and weights.
        config: the model.
        cache: the kv cache.
        rows: name of the first input, `inputs_embeds`.
        layers: of the decoder, in this graph.

    Returns:
        Names of the cosines and sines of the new positions, (B, 1, S, Dh / 2) each, and of what is added to the scores,
        (B, 1, S, past + S).
    """
    graph.input(rows, FLOAT, [BATCH, SEQUENCE, config.hidden_size])
    graph.input(ATTENTION_MASK, INT64, [BATCH, TOTAL])
    graph.input(POSITION_IDS, INT64, [BATCH, SEQUENCE])
    graph.output(LOGITS, FLOAT, [BATCH, SEQUENCE, config.vocab_size])
    for layer in layers:
        for part in CACHE_PARTS:
            heads, dim = config.num_key_value_heads, config.head_dim
            graph.input(past(layer, part), FLOAT, [BATCH, heads, PAST, dim])
            graph.output(present(layer, part), FLOAT, [BATCH, heads, TOTAL, dim])
    axis = graph.constant(np.array([1]))
    turns = [graph.op("Gather", table, POSITION_IDS, axis=0) for table in rope(graph, config, cache.rows)]
    return [*(graph.op("Unsqueeze", table, axis) for table in turns), _bias(graph, rows)]


def _bias(graph: Graph, rows: str) -> str:
    """What is added to scores: a key is read by queries at its place and behind it, unless it is padding."""
    first, step = (graph.scalar(f"number.{value}", np.int64(value)) for value in (0, 1))
    total, new = (_length(graph, name) for name in (ATTENTION_MASK, rows))
    keys = graph.op("Range", first, total, step)
    queries = graph.op("Range", graph.op("Sub", total, new), total, step)
    axes = {axis: graph.constant(np.array(axis)) for axis in ((0,), (1,), (1, 2))}
    is_before = graph.op("LessOrEqual", graph.op("Unsqueeze", keys, axes[0,]), graph.op("Unsqueeze", queries, axes[1,]))
    is_token = graph.op("Unsqueeze", graph.op("Cast", ATTENTION_MASK, to=BOOL), axes[1, 2])
    values = [graph.constant(np.array(value, np.float32)) for value in (0.0, MASKED)]
    return graph.op("Where", graph.op("And", is_before, is_token), *values)


def _length(graph: Graph, x: str) -> str:
    """Size of a tensor's second axis, a number without dimensions."""
    return graph.op("Squeeze", graph.op("Shape", x, start=1, end=2))


def attention(graph: Graph, x: str, layer: int, config: ModelConfig, cache: CacheForm, shared: list[str]) -> str:
    """Writes causal attention of rows to themselves and to the past, which they are put behind.

    Args:
        graph: receives nodes and weights.
        x: name of the input, (B, S, D).
        layer: of the decoder.
        config: the model.
        cache: the kv cache.
        shared: what `declare_inputs` returned.

    Returns:
        Name of the output, (B, S, H * Dh).
    """
    heads, kv_heads, dim = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    *turns, bias = shared
    linears = (graph.linear(x, f"model.layers.{layer}.self_attn.{part}_proj") for part in "qkv")
    query, key, value = (
        graph.op("Transpose", reshape(graph, rows, [0, 0, count, dim]), perm=[0, 2, 1, 3])
        for rows, count in zip(linears, (heads, kv_heads, kv_heads), strict=True)
    )
    new = zip(CACHE_PARTS, (_rotate(graph, key, turns), value), strict=True)
    keys, values = (graph.op("Concat", past(layer, part), rows, axis=2, out=present(layer, part)) for part, rows in new)
    scale = graph.once("scale", lambda: graph.constant(np.array(dim**-0.5, np.float32)))
    query = _grouped(graph, graph.op("Mul", _rotate(graph, query, turns), scale), config)
    scores = graph.op("MatMul", query, graph.op("Transpose", keys, perm=[0, 1, 3, 2]))
    scores = graph.op("Add", _apart(graph, scores, config), bias)
    weights = _grouped(graph, graph.op("Softmax", scores, axis=-1), config)
    mixed = _apart(graph, graph.op("MatMul", weights, values), config)
    return reshape(graph, graph.op("Transpose", mixed, perm=[0, 2, 1, 3]), [0, 0, heads * dim])


def _rotate(graph: Graph, x: str, turns: list[str]) -> str:
    """RoPE of (B, H, S, Dh)."""
    cos, sin = turns
    first, second = graph.ops(
        "Split", [x], [f"{graph.fresh('Split')}.{half}" for half in (0, 1)], axis=-1, num_outputs=2
    )
    ahead = graph.op("Sub", graph.op("Mul", first, cos), graph.op("Mul", second, sin))
    across = graph.op("Add", graph.op("Mul", second, cos), graph.op("Mul", first, sin))
    return graph.op("Concat", ahead, across, axis=-1)


def _grouped(graph: Graph, x: str, config: ModelConfig) -> str:
    """Reshapes (B, H, S, n) to (B, kv heads, H / kv heads * S, n): heads that read the same keys become rows of one."""
    if config.num_key_value_heads == config.num_attention_heads:
        return x
    return reshape(graph, x, [0, config.num_key_value_heads, -1, 0])


def _apart(graph: Graph, x: str, config: ModelConfig) -> str:
    """Reshapes back what `_grouped` has grouped."""
    if config.num_key_value_heads == config.num_attention_heads:
        return x
    return reshape(graph, x, [0, config.num_attention_heads, -1, 0])
