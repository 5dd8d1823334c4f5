"""What a stage has to do at least, from the model's description: operations of its matrix products, bytes it reads.

One multiplication with its addition counts as two operations. Norms, activations and rotations are left out: together
less than a hundredth. What the graphs leave out is left out here too: CLIP's unused layers, the last decoder layer's
projections for all rows but the last, masked attention, and rows that pooling takes away.
"""

from __future__ import annotations

from mobilevlm.checkpoint.config import ModelConfig, projector_family
from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.stages import DECODER, onnx_file
from mobilevlm.engines.targets import has_int8_cache

from ..kv_cache import empty_buffers
from .onnx_file import weight_bytes


def vision_operations(config: ModelConfig, image_tokens: int) -> int:
    """Operations to encode one picture: CLIP's layers that are used, and the projector.

    Args:
        config: a model with vision.
        image_tokens: rows the projector returns.
    """
    vision, width = config.vision, config.vision.hidden_size
    patches, rows = vision.grid**2, vision.grid**2 + 1  # the class token
    embedding = 2 * patches * 3 * vision.patch_size**2 * width
    linears = 2 * rows * (4 * width**2 + 2 * width * vision.intermediate_size)
    attention = 4 * rows**2 * width
    return embedding + config.num_vision_layers * (linears + attention) + _projector_operations(config, image_tokens)


def _projector_operations(config: ModelConfig, image_tokens: int) -> int:
    family = projector_family(config.mm_projector_type)
    rows, square = config.num_patches, 2 * config.hidden_size**2
    first = 2 * rows * config.mm_hidden_size * config.hidden_size
    if family == "linear":
        return first
    if family == "mlp":
        depth = int(config.mm_projector_type.removeprefix("mlp").split("x")[0])
        return first + (depth - 1) * rows * square
    if family == "ldpnet":  # a second linear and a block on all patches, a block on a quarter of them
        return first + (2 * rows + image_tokens) * square
    return first + image_tokens * square  # ldpnetv2: pooled before its second linear


def decoder_operations(config: ModelConfig, rows: int, past: int = 0) -> int:
    """Operations to run `rows` rows behind `past` rows of the kv cache and give the last one's logits."""
    width, layers = config.hidden_size, config.num_hidden_layers
    heads, kv_heads = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    into_attention = width * (heads + 2 * kv_heads)
    after_attention = heads * width + 3 * width * config.intermediate_size
    linears = layers * rows * into_attention + ((layers - 1) * rows + 1) * after_attention + width * config.vocab_size
    seen = rows * past + rows * (rows + 1) // 2  # pairs of a row and one that it looks at
    return 2 * linears + layers * 4 * seen * heads


def decode_bytes(bundle: Bundle, past: int) -> int:
    """Bytes that one decode step behind `past` rows reads: every weight of the decoder, and the kv cache.

    Not the weights' file size: a quantised file also holds its weights as they were before they were laid out, and
    float16 ones are float32 in memory.
    """
    config = bundle.config
    row = empty_buffers(config, 1, has_int8_cache(bundle.manifest.precision))
    return weight_bytes(bundle.path(onnx_file(DECODER))) + past * sum(buffer.nbytes for buffer in row.values())
