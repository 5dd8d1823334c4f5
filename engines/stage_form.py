"""Form of a stage: what a device has to know of a stage's precision. A build notes it in the bundle's manifest.

A precision's own file says it (`export/precisions/`), so that a device needs no list of precisions and a new one needs
nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from .typed_json import Between, OneOf

ONNX_RUNTIME, OPENVINO = "onnxruntime", "openvino"
FP32, FP16, INT8, INT16 = "fp32", "fp16", "int8", "int16"  # types of products
PRODUCTS = (FP32, FP16, INT8, INT16)
CACHE_DTYPES = ("float32", "float16", "uint8", "int8")
RUNTIMES = (ONNX_RUNTIME, OPENVINO, "qnn", "tensorrt")


@dataclass(frozen=True)
class StageForm:
    """How a stage is stored, and what computes it.

    Attributes:
        products: type of the products of linear layers: `fp32`, `fp16`, `int8` or `int16`.
        attention: type of the products of two activations.
        weight_bytes: bytes that a weight of a linear layer takes where it is read, its scales included.
        head_bytes: the same of lm_head.
        cache_dtype: numpy's name of the kv cache's dtype; without a meaning for a vision stage.
        runtime: library that opens the graphs: `onnxruntime`, `openvino`, `qnn` or `tensorrt`.
        quantized: whether linear layers of a float graph have int8 or int4 weights. ONNX Runtime packs those for its
            kernels and runs their graph as it was written, the way the build verified it.
        widened: whether stored weights become float32 when a CPU opens them, twice their size.
        xnnpack: whether XNNPACK is offered the graph before ONNX Runtime's own kernels.
        layers_per_file: decoder layers in each file of a separate prefill; 0 for a stage of one file.
    """

    products: Annotated[str, OneOf(PRODUCTS)]
    attention: Annotated[str, OneOf(PRODUCTS)]
    weight_bytes: Annotated[float, Between(0, 16)]
    head_bytes: Annotated[float, Between(0, 16)]
    cache_dtype: Annotated[str, OneOf(CACHE_DTYPES)]
    runtime: Annotated[str, OneOf(RUNTIMES)] = ONNX_RUNTIME
    quantized: bool = False
    widened: bool = False
    xnnpack: bool = False
    layers_per_file: Annotated[int, Between(0, 2**10)] = 0
