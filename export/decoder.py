"""The decoder stage: LLaMA from inputs_embeds to the logits of the last position, defined once for every lowering."""

from __future__ import annotations

from types import ModuleType

import numpy as np
from onnx import TensorProto

from mobilevlm.config import ModelConfig
from mobilevlm.engines.stages import INPUTS_EMBEDS, LOGITS

from .graph import Graph


def write_decoder(graph: Graph, config: ModelConfig, lowering: ModuleType, max_context: int) -> None:
    """Write the decoder into a graph.

    Args:
        graph: receives nodes and weights.
        config: the model.
        lowering: a module of `export/lowerings/`.
        max_context: rows of the kv cache.
    """
    epsilon = config.rms_norm_eps
    rope = lowering.declare_inputs(graph, config, max_context)
    residual = INPUTS_EMBEDS
    x = lowering.norm(graph, residual, "model.layers.0.input_layernorm.weight", epsilon)
    for layer in range(config.num_hidden_layers):
        name = f"model.layers.{layer}."
        qkv = graph.linear(x, *(f"{name}self_attn.{part}_proj" for part in "qkv"))
        x = lowering.attention(graph, qkv, layer, config, rope)
        last = layer == config.num_hidden_layers - 1
        if last:  # nothing after the last attention looks at earlier positions
            x, residual = (_last_position(graph, value) for value in (x, residual))
        x = graph.linear(x, f"{name}self_attn.o_proj")
        x, residual = lowering.add_norm(graph, x, residual, f"{name}post_attention_layernorm.weight", epsilon)
        gate, up = graph.linear(x, f"{name}mlp.gate_proj"), graph.linear(x, f"{name}mlp.up_proj")
        x = graph.linear(graph.op("Mul", lowering.silu(graph, gate), up), f"{name}mlp.down_proj")
        next_norm = "model.norm.weight" if last else f"model.layers.{layer + 1}.input_layernorm.weight"
        x, residual = lowering.add_norm(graph, x, residual, next_norm, epsilon)
    logits = graph.linear(x, "model.embed_tokens" if config.tie_word_embeddings else "lm_head")
    graph.op("Reshape", logits, graph.constant(np.array([1, config.vocab_size])), out=LOGITS)
    graph.output(LOGITS, TensorProto.FLOAT, [1, config.vocab_size])


def _last_position(graph: Graph, x: str) -> str:
    return graph.op("Gather", x, graph.constant(np.array([-1])), axis=1)
