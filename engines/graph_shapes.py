"""Shapes that the graphs of a CPU's stages have for a model: what `graph_check.require_tensors` compares them with."""

from __future__ import annotations

from mobilevlm.checkpoint.config import ModelConfig

from . import stages
from .graph_check import Shape

Tensors = dict[str, Shape]


def vision_tensors(config: ModelConfig, image_tokens: int) -> tuple[Tensors, Tensors]:
    """Returns inputs and outputs of a vision stage.

    Args:
        config: the model, which has vision.
        image_tokens: tokens of an image.
    """
    edge = config.tower.image_size
    return {stages.PIXEL_VALUES: (1, 3, edge, edge)}, {stages.IMAGE_EMBEDS: (1, image_tokens, config.hidden_size)}


def decoder_tensors(config: ModelConfig, max_context: int) -> tuple[Tensors, Tensors]:
    """Returns inputs and outputs of a decoder of the `ort` lowerings.

    Args:
        config: the model.
        max_context: tokens of the kv cache.
    """
    cache = (1, config.num_key_value_heads, max_context, config.head_dim)
    keys = [(layer, part) for layer in range(config.num_hidden_layers) for part in stages.CACHE_PARTS]
    inputs: Tensors = {
        stages.INPUTS_EMBEDS: (1, None, config.hidden_size),
        stages.SEQLENS_K: (1,),
        stages.TOTAL_SEQUENCE_LENGTH: (),
        **{stages.past(*key): cache for key in keys},
    }
    return inputs, {stages.LOGITS: (1, config.vocab_size), **{stages.present(*key): cache for key in keys}}


def prefill_tensors(config: ModelConfig, layers: range) -> tuple[Tensors, Tensors]:
    """Returns inputs and outputs of a file of a separate prefill.

    Args:
        config: the model.
        layers: of the decoder in the file.
    """
    heads, size = config.num_key_value_heads, config.head_dim
    keys = [(layer, part) for layer in layers for part in stages.CACHE_PARTS]
    rows: Shape = (1, None, config.hidden_size)
    is_last = layers.stop == config.num_hidden_layers
    inputs: Tensors = {
        stages.INPUTS_EMBEDS if layers.start == 0 else stages.HIDDEN_STATES: rows,
        stages.PAST_LENGTH: (1,),
        **{stages.past(*key): (1, heads, None, size) for key in keys},
    }
    last: Tensors = {stages.LOGITS: (1, config.vocab_size)} if is_last else {stages.NEXT_HIDDEN_STATES: rows}
    return inputs, last | {stages.new_rows(*key): (1, None, heads * size) for key in keys}
