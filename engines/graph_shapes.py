"""Shapes that the graphs of stages have for a model: what `graph_check.require_tensors` compares them with."""

from __future__ import annotations

from mobilevlm.checkpoint.config import ModelConfig

from . import stages
from .chunks import cache_shape
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
    first, last = _hidden(config, layers, None)
    inputs: Tensors = {
        **first,
        stages.PAST_LENGTH: (1,),
        **{stages.past(*key): (1, heads, None, size) for key in keys},
    }
    return inputs, last | {stages.new_rows(*key): (1, None, heads * size) for key in keys}


def chunk_tensors(config: ModelConfig, layers: range, rows: int, cache_rows: int) -> tuple[Tensors, Tensors]:
    """Returns inputs and outputs of a decoder's graph of the `qnn` lowering, see `chunks.ChunkedDecoder`.

    Args:
        config: the model.
        layers: of the decoder in the graph.
        rows: of a call.
        cache_rows: tokens of the kv cache.
    """
    keys = [(layer, part) for layer in layers for part in stages.CACHE_PARTS]
    where: Tensors = {
        stages.ATTENTION_MASK: (1, 1, rows, cache_rows + rows),
        stages.ROPE_COS: (1, 1, rows, config.head_dim),
        stages.ROPE_SIN: (1, 1, rows, config.head_dim),
    }
    caches: Tensors = {stages.past(*key): cache_shape(config, key[1], cache_rows) for key in keys}
    first, last = _hidden(config, layers, rows)
    return where | caches | first, last | {stages.new_rows(*key): cache_shape(config, key[1], rows) for key in keys}


def bucket_tensors(config: ModelConfig, layers: range) -> tuple[Tensors, Tensors]:
    """Returns inputs and outputs of a decoder's graph for TensorRT, see `tensorrt.bucketed_decoder.BucketedDecoder`.

    Args:
        config: the model.
        layers: of the decoder in the graph.
    """
    heads, size = config.num_key_value_heads, config.head_dim
    where: Tensors = {
        stages.ATTENTION_MASK: (1, 1, None, None),
        stages.ROPE_COS: (1, None, 1, size),
        stages.ROPE_SIN: (1, None, 1, size),
    }
    keys = [stages.past(layer, part) for layer in layers for part in stages.CACHE_PARTS]
    first, last = _hidden(config, layers, None)
    new: Tensors = {stages.NEW_ROWS: (2 * len(layers), None, heads * size)}
    return where | dict.fromkeys(keys, (1, None, heads, size)) | first, last | new


def _hidden(config: ModelConfig, layers: range, rows: int | None) -> tuple[Tensors, Tensors]:
    """What enters and what leaves a graph of some layers beside keys and values."""
    shape: Shape = (1, rows, config.hidden_size)
    is_last = layers.stop == config.num_hidden_layers
    return (
        {stages.INPUTS_EMBEDS if layers.start == 0 else stages.HIDDEN_STATES: shape},
        {stages.LOGITS: (1, config.vocab_size)} if is_last else {stages.NEXT_HIDDEN_STATES: shape},
    )
