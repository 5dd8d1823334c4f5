"""Which form of the decoder's attention TensorRT gets here: by its version, and by trying a small layer of it."""

from __future__ import annotations

from collections.abc import Callable

from mobilevlm.config import ModelConfig

from .onnx_bytes import FLOAT, FLOAT16, INT64, Node, Tensor, model_bytes
from .profiles import DELTA, FUSED

FUSED_SINCE = (10, 16)
OPSET = 24
PROBE_ROWS = 16


def version_number(version: str) -> tuple[int, ...]:
    """`10.16.2.3` as numbers, to be compared."""
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def choose_lowering(version: str, try_probe: Callable[[], str | None]) -> tuple[str, str]:
    """`fused` where TensorRT knows its operators and has kernels for them, otherwise `delta`.

    Args:
        version: of TensorRT.
        try_probe: builds `probe_model` and returns why it cannot be built, or None.

    Returns:
        The lowering, and why.
    """
    needed = ".".join(map(str, FUSED_SINCE))
    if version_number(version) < FUSED_SINCE:
        return DELTA, f"TensorRT {version} is older than {needed}, which has the operators of {FUSED}"
    problem = try_probe()
    if problem is None:
        return FUSED, f"TensorRT {version} built a layer of it"
    return DELTA, f"TensorRT {version} could not build a layer of {FUSED}: {problem}"


def probe_model(config: ModelConfig, precision: str) -> bytes:
    """Rotary embedding, cache update and attention of one layer, with the model's heads, for few rows."""
    dtype = FLOAT if precision == "fp32" else FLOAT16
    heads, kv_heads, size = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    capacity = 2 * PROBE_ROWS
    rows = (1, kv_heads, PROBE_ROWS, size)
    cache, table = (1, kv_heads, capacity, size), (1, PROBE_ROWS, size // 2)
    nodes = [
        Node("RotaryEmbedding", ("query", "rope_cos", "rope_sin"), "turned_query"),
        Node("RotaryEmbedding", ("key", "rope_cos", "rope_sin"), "turned_key"),
        Node("TensorScatter", ("past_key", "turned_key", "write_indices"), "present_key", {"axis": -2}),
        Node("TensorScatter", ("past_value", "value", "write_indices"), "present_value", {"axis": -2}),
        Node(
            "Attention", ("turned_query", "present_key", "present_value", "mask"), "attended", {"TRT_decomposable": 1}
        ),
    ]
    shapes = {"query": (1, heads, *rows[2:]), "key": rows, "value": rows, "rope_cos": table, "rope_sin": table}
    shapes |= {"past_key": cache, "past_value": cache, "mask": (1, 1, PROBE_ROWS, capacity)}
    inputs = [Tensor(name, dtype, shape) for name, shape in shapes.items()]
    inputs.append(Tensor("write_indices", INT64, (1,)))
    outputs = {"attended": (1, heads, *rows[2:]), "present_key": cache, "present_value": cache}
    return model_bytes(nodes, inputs, [Tensor(name, dtype, shape) for name, shape in outputs.items()], OPSET)
