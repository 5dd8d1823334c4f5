"""For ONNX Runtime on a CPU: its fused operators, and a kv cache that is updated in place.

`GroupQueryAttention` appends the new rows to the buffer it was given as past (the runtime binds past and present to one
address) and applies RoPE itself; one step at 1k context costs a tenth of the standard `Attention` operator. On an
int8 cache a step is quicker still, and many rows are slower: see `ort_prefill`.
Operators: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto

from mobilevlm.checkpoint.config import ConfigError, ModelConfig
from mobilevlm.engines.rope import half_tables
from mobilevlm.engines.stages import CACHE_PARTS, SEQLENS_K, TOTAL_SEQUENCE_LENGTH, past, present

from ..split.graph import ORT_DOMAIN, Graph
from ..split.kv_cache import CacheForm

FLOAT, INT32, INT8 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT8


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
    qkv = [graph.product(x, layer) for layer in layers]
    return graph.op("MultiHeadAttention", *qkv, graph.bias(*layers), domain=ORT_DOMAIN, num_heads=heads)


def quick_gelu(graph: Graph, x: str) -> str:
    """Writes CLIP's activation, `x * sigmoid(1.702 x)`.

    Args:
        graph: receives nodes and weights.
        x: name of the input.

    Returns:
        Name of the output, of the input's shape.
    """
    y = graph.op("QuickGelu", x, domain=ORT_DOMAIN, alpha=1.702)
    graph.lowest[y] = -0.27847 / 1.702  # -W(1/e), where x * sigmoid(x) turns
    return y


def silu(graph: Graph, x: str) -> str:
    """Writes `x * sigmoid(x)`.

    Args:
        graph: receives nodes and weights.
        x: name of the input.

    Returns:
        Name of the output, of the input's shape.
    """
    return graph.op("QuickGelu", x, domain=ORT_DOMAIN, alpha=1.0)


def norm(graph: Graph, x: str, weight: str, epsilon: float) -> str:
    """Writes RMSNorm.

    Args:
        graph: receives nodes and weights.
        x: name of the input, (1, S, D).
        weight: name of the gain in the checkpoint, (D,).
        epsilon: added to the mean square.

    Returns:
        Name of the output, (1, S, D).
    """
    return graph.op("SimplifiedLayerNormalization", x, graph.weight(weight), axis=-1, epsilon=epsilon, stash_type=1)


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
    outputs = [graph.fresh("norm"), "", "", graph.fresh("sum")]
    inputs = [x, residual, graph.weight(weight)]
    graph.ops("SkipSimplifiedLayerNormalization", inputs, outputs, ORT_DOMAIN, epsilon=epsilon)
    return outputs[0], outputs[3]


def last_position(graph: Graph, x: str) -> str:
    """Writes the selection of the last row.

    Args:
        graph: receives nodes and weights.
        x: name of the input, (1, S, D).

    Returns:
        Name of the output, (1, 1, D).
    """
    return graph.op("Gather", x, graph.constant(np.array([-1])), axis=1)


def declare_inputs(graph: Graph, config: ModelConfig, cache: CacheForm, rows: str, layers: range) -> list[str]:
    """Declares the inputs and cache outputs of decoder layers.

    Args:
        graph: receives nodes and weights.
        config: the model.
        cache: the kv cache.
        rows: name of the first input, `inputs_embeds` or `hidden_states`.
        layers: of the decoder, in this graph.

    Returns:
        Names of RoPE's tables of cosines and sines.
    """
    if config.head_dim % 16:
        raise ConfigError(f"heads of {config.head_dim} are not supported on a CPU: a multiple of 16 is needed")
    graph.input(rows, FLOAT, [1, "sequence", config.hidden_size])
    graph.input(SEQLENS_K, INT32, [1])
    graph.input(TOTAL_SEQUENCE_LENGTH, INT32, [])
    shape = [1, config.num_key_value_heads, cache.rows, config.head_dim]
    dtype = FLOAT if cache.scales is None else INT8
    for layer in layers:
        for part in CACHE_PARTS:
            graph.input(past(layer, part), dtype, shape)
            graph.output(present(layer, part), dtype, shape)
    return rope(graph, config, cache.rows)


def rope(graph: Graph, config: ModelConfig, rows: int) -> list[str]:
    """Adds the tables of RoPE's angles.

    Args:
        graph: receives nodes and weights.
        config: the model.
        rows: positions that they hold.

    Returns:
        Names of the cosines and sines, (rows, Dh / 2) float32 each.
    """
    cos, sin = half_tables(config, np.arange(rows))
    return [graph.initializer("rope.cos", cos), graph.initializer("rope.sin", sin)]


def attention(graph: Graph, x: str, layer: int, config: ModelConfig, cache: CacheForm, tables: list[str]) -> str:
    """Writes causal attention of rows to themselves and to the cache, which their keys and values are added to.

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
    qkv = graph.linear(x, *(f"model.layers.{layer}.self_attn.{part}_proj" for part in "qkv"))
    caches = [past(layer, "key"), past(layer, "value")]
    inputs = [qkv, "", "", *caches, SEQLENS_K, TOTAL_SEQUENCE_LENGTH, *tables]
    outputs = [graph.fresh("attention"), present(layer, "key"), present(layer, "value")]
    form = {}
    if cache.scales is not None:
        scales = [graph.initializer(f"cache.{layer}.{part}", cache.int8_scale(layer, part)) for part in CACHE_PARTS]
        inputs += ["", "", "", *scales]
        form = {"kv_cache_bit_width": 8, "k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL"}
    return graph.ops(
        "GroupQueryAttention",
        inputs,
        outputs,
        ORT_DOMAIN,
        num_heads=config.num_attention_heads,
        kv_num_heads=config.num_key_value_heads,
        do_rotary=1,
        rotary_interleaved=0,
        **form,
    )[0]
