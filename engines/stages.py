"""Names of stages, tensors and files: the contract between `export` and `runtime`.

| stage        | tensors                                                                       |
|--------------|-------------------------------------------------------------------------------|
| vision       | pixel_values (1, 3, H, H) -> image_embeds (1, N, D)                           |
| embed_tokens | ids -> rows of a stored table (V, D); no graph                                |
| decoder      | inputs_embeds (1, S, D), kv cache, positions -> logits (1, V) of the last one |
| prefill      | the decoder once more, for many rows: files of `layers_per_file` layers each, |
|              | which hand hidden_states (1, S, D) on; some bundles have it                   |
"""

from __future__ import annotations

VISION, PREFILL, DECODER = "vision", "prefill", "decoder"

PIXEL_VALUES, IMAGE_EMBEDS = "pixel_values", "image_embeds"
INPUTS_EMBEDS, LOGITS = "inputs_embeds", "logits"
HIDDEN_STATES, NEXT_HIDDEN_STATES = "hidden_states", "next_hidden_states"
# Lowerings `ort` and `ort_xnnpack`: index of the last valid cache row (1,) int32, cache rows after this call () int32.
SEQLENS_K, TOTAL_SEQUENCE_LENGTH = "seqlens_k", "total_sequence_length"
# Lowering `ort_prefill`: cache rows before this call (1,) int64.
PAST_LENGTH = "past_length"
# Lowerings `qnn` and `tensorrt_delta`: see `attention_mask.py` and `rope.py`.
ATTENTION_MASK, ROPE_COS, ROPE_SIN = "attention_mask", "rope_cos", "rope_sin"
# Lowering `tensorrt_delta`: keys and values of all its layers in one block (2 * layers, S, kv heads * head_dim).
NEW_ROWS = "new_rows"

# TensorRT's decoders: the largest logits (1, K) float32, in descending order, and their tokens (1, K) int64.
TOP_LOGITS, TOP_TOKENS = "top_logits", "top_tokens"
TOP_COUNT = 64  # K: enough for greedy decoding and usual sampling

CACHE_PARTS = ("key", "value")
# Offsets of the int4 weights that a prefill's int8 weights are computed from (`engines/ort/int4_weights.py`).
INT4_PLACES_FILE = "prefill.json"
EMBED_TOKENS_FILE = "embed_tokens.npy"
GOLDEN_FILE = "golden.safetensors"
# Its content: inputs of the sample, PyTorch's outputs, and prefixed with BUILT the outputs of the build's own stages.
# The prompt is run in two parts, all but QUESTION_ROWS by the prefill where there is one, which FIRST_LOGITS are of.
FIRST_LOGITS, BUILT, QUESTION_ROWS = "first_logits", "built.", 8
REPORT_FILE = "report.md"
MANIFEST_FILE = "bundle.json"
SIGNATURE_FILE = f"{MANIFEST_FILE}.minisig"
NEXT_SIGNATURE_FILE = f"{MANIFEST_FILE}.next.minisig"  # of a manifest that is about to be written
TIMING_CACHE_FILE = "timing.cache"  # TensorRT's measurements on this machine: the next build is quicker


def parts(stage: str, layers: int, layers_per_file: int = 0) -> dict[str, range]:
    """Returns the names of a stage's graphs, and the layers of the decoder in each.

    Args:
        stage: `VISION`, `PREFILL` or `DECODER`.
        layers: of the whole decoder.
        layers_per_file: of a separate prefill, whose weights are in memory a file at a time; 0 for one file.
    """
    if not layers_per_file:
        return {stage: range(layers)}
    starts = range(0, layers, layers_per_file)
    return {f"{stage}.{n}": range(start, min(start + layers_per_file, layers)) for n, start in enumerate(starts)}


def decoder_parts(layers: int, pieces: int) -> dict[str, range]:
    """Returns the names of a split decoder's graphs, and the layers in each.

    Args:
        layers: of the whole decoder.
        pieces: graphs that it is split into.
    """
    cuts = [layers * piece // pieces for piece in range(pieces + 1)]
    return {f"{DECODER}.{piece}": range(*cuts[piece : piece + 2]) for piece in range(pieces)}


def chunk_graph(part: str, rows: int) -> str:
    """Returns the name of a graph with a fixed number of rows.

    Args:
        part: the graph's name where that number is dynamic.
        rows: of a call: 1 for a token, more for a chunk of a prompt.
    """
    return f"{part}.{'token' if rows == 1 else 'prompt'}"


def onnx_file(part: str) -> str:
    """File name of a graph, relative to the bundle."""
    return f"{part}.onnx"


def float32_file(graph: str) -> str:
    """File name of the float32 copy of a TensorRT graph, on the same weights, which a CPU can run."""
    return f"{graph}.float32.onnx"


def engine_file(part: str) -> str:
    """File name of a graph's TensorRT engine, relative to the bundle."""
    return f"{part}.engine"


def npu_file(graph: str) -> str:
    """File name of a graph that was compiled for the NPU; it names the context binary beside it."""
    return f"{graph}.npu.onnx"


def weights_file(part: str) -> str:
    """File name of a graph's weights, relative to the bundle."""
    return f"{part}.weights"


def past(layer: int, part: str) -> str:
    """Name of a kv cache input, (1, kv heads, max context, head_dim); of a prefill graph without unused rows.

    Args:
        layer: of the decoder.
        part: `key` or `value`.
    """
    return f"past_key_values.{layer}.{part}"


def present(layer: int, part: str) -> str:
    """Name of the output that is the kv cache, the same buffer, after the call.

    Args:
        layer: of the decoder.
        part: `key` or `value`.
    """
    return f"present.{layer}.{part}"


def new_rows(layer: int, part: str) -> str:
    """Name of the output with a call's keys or values, which belong behind the past: (1, S, kv heads * head_dim).

    Args:
        layer: of the decoder.
        part: `key` or `value`.
    """
    return f"new.{layer}.{part}"
