"""Least work of a stage, from the model's description: operations of its matrix products, bytes it reads.

One multiplication with its addition counts as two operations. Norms, activations and rotations are left out: together
less than a hundredth. What the graphs leave out is left out here too: CLIP's unused layers, the last decoder layer's
projections for all rows but the last, masked attention, and rows that pooling takes away.
"""

from __future__ import annotations

from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.stages import DECODER, onnx_file
from mobilevlm.model.projectors import projector_of

from ..kv_cache import empty_buffers
from .onnx_file import weight_bytes


def vision_operations(config: ModelConfig) -> int:
    """Operations to encode one image: CLIP's layers that are used, and the projector.

    Raises:
        ConfigError: a text-only model.
    """
    vision = config.tower
    width, patches, rows = vision.hidden_size, vision.grid**2, vision.num_rows
    embedding = 2 * patches * 3 * vision.patch_size**2 * width
    linears = 2 * rows * (4 * width**2 + 2 * width * vision.intermediate_size)
    attention = 4 * rows**2 * width
    return embedding + config.num_vision_layers * (linears + attention) + projector_of(config).operations(config)


def decoder_operations(config: ModelConfig, rows: int, past: int = 0) -> int:
    """Operations to run rows of the decoder and give the last one's logits.

    Args:
        config: the model.
        rows: that are run.
        past: rows of the kv cache before them.
    """
    width, layers = config.hidden_size, config.num_hidden_layers
    heads, kv_heads = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    into_attention = width * (heads + 2 * kv_heads)
    after_attention = heads * width + 3 * width * config.intermediate_size
    linears = layers * rows * into_attention + ((layers - 1) * rows + 1) * after_attention + width * config.vocab_size
    seen = rows * past + rows * (rows + 1) // 2  # pairs of a row and one that it looks at
    return 2 * linears + layers * 4 * seen * heads


def decode_bytes(bundle: Bundle, past: int) -> int:
    """Bytes that one decode step reads: every weight of the decoder, and the kv cache.

    Not the weights' file size: a quantised file also holds its weights as they were before they were laid out, and
    float16 ones are float32 in memory.

    Args:
        bundle: whose decoder.
        past: rows of the kv cache.
    """
    config = bundle.config
    row = empty_buffers(config, 1, bundle.manifest.forms[DECODER].cache_dtype == "int8")
    return weight_bytes(bundle.path(onnx_file(DECODER))) + past * sum(buffer.nbytes for buffer in row.values())
