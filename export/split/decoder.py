"""Decoder stage: LLaMA from inputs_embeds to the logits of the last position, defined once for every lowering.

A separate prefill is the same layers in another precision and lowering, some to a graph.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np
from onnx import TensorProto

from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.engines.stages import (
    HIDDEN_STATES,
    INPUTS_EMBEDS,
    LOGITS,
    NEXT_HIDDEN_STATES,
    TOP_COUNT,
    TOP_LOGITS,
    TOP_TOKENS,
)

from .graph import Graph
from .kv_cache import CacheForm


def write_decoder(
    graph: Graph,
    config: ModelConfig,
    lowering: ModuleType,
    cache: CacheForm,
    layers: range,
    every_position: bool = False,
) -> None:
    """Writes decoder layers into a graph; behind the last one, the logits.

    Args:
        graph: receives nodes and weights.
        config: the model.
        lowering: a module of `export/lowerings/`.
        cache: the kv cache.
        layers: which; all of them for the stage in one graph.
        every_position: whether the logits are those of every position, (B, S, V), which the lowering has declared, not
            of the last one, (1, V).
    """
    epsilon = config.rms_norm_eps
    residual = INPUTS_EMBEDS if layers.start == 0 else HIDDEN_STATES
    tables = lowering.declare_inputs(graph, config, cache, residual, layers)
    x = lowering.norm(graph, residual, f"model.layers.{layers.start}.input_layernorm.weight", epsilon)
    for layer in layers:
        name = f"model.layers.{layer}."
        x = lowering.attention(graph, x, layer, config, cache, tables)
        last = layer == config.num_hidden_layers - 1
        if last and not every_position:  # nothing after the last attention looks at earlier positions
            x, residual = (lowering.last_position(graph, value) for value in (x, residual))
        x = graph.linear(x, f"{name}self_attn.o_proj")
        x, residual = lowering.add_norm(graph, x, residual, f"{name}post_attention_layernorm.weight", epsilon)
        gate, (up, factors) = graph.linear(x, f"{name}mlp.gate_proj"), graph.up_to_factors(x, f"{name}mlp.up_proj")
        x = graph.linear(graph.op("Mul", lowering.silu(graph, gate), up), f"{name}mlp.down_proj", factors=factors)
        if layer + 1 == layers.stop and not last:
            graph.blocks[f"model.layers.{layer}"] = graph.op("Add", x, residual, out=NEXT_HIDDEN_STATES)
            graph.output(NEXT_HIDDEN_STATES, graph.kind, [1, "sequence", config.hidden_size])
            return
        next_norm = "model.norm.weight" if last else f"model.layers.{layer + 1}.input_layernorm.weight"
        x, residual = lowering.add_norm(graph, x, residual, next_norm, epsilon)
        graph.blocks[f"model.layers.{layer}"] = residual
    logits = graph.linear(x, "model.embed_tokens" if config.tie_word_embeddings else "lm_head")
    if every_position:
        graph.op("Identity", graph.wide(logits), out=LOGITS)
    else:
        graph.op("Reshape", graph.wide(logits), graph.constant(np.array([1, config.vocab_size])), out=LOGITS)
        graph.output(LOGITS, TensorProto.FLOAT, [1, config.vocab_size])
    graph.blocks["head"] = LOGITS


def write_likeliest(graph: Graph, config: ModelConfig) -> None:
    """Writes the selection of the largest logits behind the last layer: a token is chosen without copying the others.

    Args:
        graph: receives nodes and weights.
        config: the model.
    """
    count = min(TOP_COUNT, config.vocab_size)
    graph.ops("TopK", [LOGITS, graph.constant(np.array([count]))], [TOP_LOGITS, TOP_TOKENS], axis=-1)
    graph.output(TOP_LOGITS, TensorProto.FLOAT, [1, count])
    graph.output(TOP_TOKENS, TensorProto.INT64, [1, count])
