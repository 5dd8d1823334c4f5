"""Names of stages, tensors and files: the contract between `export` and `runtime`, in one place.

| stage        | tensors                                                                       |
|--------------|-------------------------------------------------------------------------------|
| vision       | pixel_values (1, 3, H, H) -> image_embeds (1, N, D)                           |
| embed_tokens | ids -> rows of a stored table (V, D); no graph                                |
| decoder      | inputs_embeds (1, S, D), kv cache, positions -> logits (1, V) of the last one |
| prefill      | the decoder once more, for many rows: files of `PREFILL_LAYERS` layers each,  |
|              | which hand hidden_states (1, S, D) on; some bundles have it                   |
"""

from __future__ import annotations

VISION, PREFILL, DECODER = "vision", "prefill", "decoder"

PIXEL_VALUES, IMAGE_EMBEDS = "pixel_values", "image_embeds"
INPUTS_EMBEDS, LOGITS = "inputs_embeds", "logits"
HIDDEN_STATES, NEXT_HIDDEN_STATES = "hidden_states", "next_hidden_states"
# Of the `gqa` lowering: index of the last valid cache row (1,) int32, and cache rows after this call () int32.
SEQLENS_K, TOTAL_SEQUENCE_LENGTH = "seqlens_k", "total_sequence_length"
# Of the `prompt` lowering: cache rows before this call (1,) int64.
PAST_LENGTH = "past_length"
# Of the `delta` lowering: see `engines/chunks.py`.
ATTENTION_MASK, ROPE_COS, ROPE_SIN = "attention_mask", "rope_cos", "rope_sin"
# Of TensorRT's `strided` lowering: rows of all its layers in one block (2 * layers, S, kv heads * head_dim).
NEW_ROWS = "new_rows"

# Of TensorRT's decoders: the largest of the logits (1, K) float32, largest first, and their tokens (1, K) int64.
TOP_LOGITS, TOP_TOKENS = "top_logits", "top_tokens"
TOP_COUNT = 64  # K: what greedy choice and usual sampling look at

CACHE_PARTS = ("key", "value")
# In a file, by precision: of the weights, what is in memory at a time. OpenVINO's files are alike, a layer each.
PREFILL_LAYERS = {"int8": 2, "int8_amx": 1}
# Where the int4 weights lie that a prefill's are computed from (`engines/ort/int4_weights.py`).
INT4_PLACES_FILE = "prefill.json"
EMBED_TOKENS_FILE = "embed_tokens.npy"
GOLDEN_FILE = "golden.safetensors"
# In it: inputs of the sample, PyTorch's outputs, and under BUILT and a name what the build's own stages gave. A prompt
# is run in two parts, all but QUESTION_ROWS by the prefill where there is one; FIRST_LOGITS are those of the first.
FIRST_LOGITS, BUILT, QUESTION_ROWS = "first_logits", "built.", 8
REPORT_FILE = "report.md"
MANIFEST_FILE = "bundle.json"
TIMING_CACHE_FILE = "timing.cache"  # what TensorRT measured here: the next build is quicker


def parts(stage: str, layers: int, precision: str) -> dict[str, range]:
    """A stage's graphs by name, and the layers in each of a decoder that has so many."""
    if stage != PREFILL:
        return {stage: range(layers)}
    step = PREFILL_LAYERS[precision]
    starts = range(0, layers, step)
    return {f"{PREFILL}.{n}": range(start, min(start + step, layers)) for n, start in enumerate(starts)}


def decoder_parts(layers: int, pieces: int) -> dict[str, range]:
    """A decoder of the `delta` lowering cut into pieces by name, and the layers in each."""
    cuts = [layers * piece // pieces for piece in range(pieces + 1)]
    return {f"{DECODER}.{piece}": range(*cuts[piece : piece + 2]) for piece in range(pieces)}


def chunk_graph(part: str, rows: int) -> str:
    """A piece's graph for so many rows at a time."""
    return f"{part}.{'token' if rows == 1 else 'prompt'}"


def onnx_file(part: str) -> str:
    """Of a graph."""
    return f"{part}.onnx"


def float32_file(graph: str) -> str:
    """Of a graph for TensorRT, on the same weights with float32 arithmetic: what a CPU can run."""
    return f"{graph}.float32.onnx"


def engine_file(part: str) -> str:
    """Of what TensorRT makes of a graph."""
    return f"{part}.engine"


def npu_file(graph: str) -> str:
    """Of a compiled graph: names the context binary beside it."""
    return f"{graph}.npu.onnx"


def weights_file(part: str) -> str:
    """Of a graph."""
    return f"{part}.weights"


def past(layer: int, part: str) -> str:
    """Name of a cache input; `part` is `key` or `value`.

    (1, kv heads, max context, head_dim); of the `prompt` lowering as many rows as there are.
    """
    return f"past_key_values.{layer}.{part}"


def present(layer: int, part: str) -> str:
    """Name of the output that is the same buffer after the call."""
    return f"present.{layer}.{part}"


def new_rows(layer: int, part: str) -> str:
    """Name of the output of the `prompt` lowering that belongs behind the past: (1, S, kv heads * head_dim)."""
    return f"new.{layer}.{part}"
