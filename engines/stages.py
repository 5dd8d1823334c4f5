"""Names of stages, tensors and files: the contract between `export` and `runtime`, in one place.

| stage        | tensors                                                                       |
|--------------|-------------------------------------------------------------------------------|
| vision       | pixel_values (1, 3, H, H) -> image_embeds (1, N, D)                           |
| embed_tokens | ids -> rows of a memory-mapped table (V, D); no graph                         |
| decoder      | inputs_embeds (1, S, D), kv cache, positions -> logits (1, V) of the last one |
"""

from __future__ import annotations

VISION, DECODER = "vision", "decoder"

PIXEL_VALUES, IMAGE_EMBEDS = "pixel_values", "image_embeds"
INPUTS_EMBEDS, LOGITS = "inputs_embeds", "logits"
# Of the `gqa` lowering: index of the last valid cache row (1,) int32, and cache rows after this call () int32.
SEQLENS_K, TOTAL_SEQUENCE_LENGTH = "seqlens_k", "total_sequence_length"

ONNX_FILES = {VISION: "vision.onnx", DECODER: "decoder.onnx"}
WEIGHT_FILES = {VISION: "vision.weights", DECODER: "decoder.weights"}
EMBED_TOKENS_FILE = "embed_tokens.npy"
GOLDEN_FILE = "golden.safetensors"
REPORT_FILE = "report.md"
MANIFEST_FILE = "bundle.json"


def past(layer: int, part: str) -> str:
    """Name of a cache input; `part` is `key` or `value`, shape (1, kv heads, max context, head_dim)."""
    return f"past_key_values.{layer}.{part}"


def present(layer: int, part: str) -> str:
    """Name of the output that is the same buffer after the call."""
    return f"present.{layer}.{part}"
