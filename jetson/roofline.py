"""A paper model of one stage: the least time that a board's memory, arithmetic and launches allow. Nothing is measured.

The larger of bytes over bandwidth and operations over peak, as if the two always overlapped, plus a gap behind every
kernel, as if kernels were as few as fusion can make them. A measured time below it is a mistake in one of the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

from mobilevlm.checkpoint.config import ModelConfig, projector_family
from mobilevlm.engines.stages import DECODER, VISION
from mobilevlm.engines.tensorrt.counted import Counted
from mobilevlm.runtime.bench.workload import decoder_operations, vision_operations

from .modules import Module

# Bytes of a weight of a linear. int4 has a float16 scale for each block of 128; int8's scales per channel do not count.
WEIGHT_BYTES = {"fp32": 4.0, "fp16": 2.0, "int8": 1.0, "int4": 0.5 + 2 / 128}
# lm_head's, whose error goes into every token: float16 beside int4 linears.
HEAD_PRECISION = {"int4": "fp16"}
CACHE_BYTES = {"fp32": 4}  # of an element of the kv cache; float16 for all others
# Products of two activations are not quantised: a picture's 577 rows are too many for TensorRT's int8 attention.
ATTENTION_PRECISION = {"int8": "fp16", "int4": "fp16"}
# Kernels, with all fused that can be. Of a decoder layer: norm, QKV, rotation with the cache's new row, attention,
# output with its addition, norm, gate and up, activation, down with its addition; behind the layers a norm, lm_head and
# the choice of a token. Of a CLIP layer: norm, QKV, attention, output, norm, two linears with what follows them.
LAYER_KERNELS, LAST_KERNELS = 9, 3
VISION_LAYER_KERNELS, PROJECTOR_KERNELS = 7, 6
# Between short kernels of one CUDA graph on a V100: 3.4 us a kernel of 2.9 us (https://developer.nvidia.com/blog/
# cuda-graphs/). An Orin's gap is not known and hardly shorter.
KERNEL_GAP_S = 0.5e-6


@dataclass(frozen=True)
class Limit:
    """One stage on one board, or stages one after the other (`+`), in milliseconds.

    Attributes:
        ms: the least time.
        memory_ms: its bytes at the board's bandwidth.
        compute_ms: its operations at the board's peak.
        launch_ms: the gaps behind its kernels.
        gigabytes: that it reads, in 10^9 bytes.
    """

    ms: float
    memory_ms: float
    compute_ms: float
    launch_ms: float
    gigabytes: float

    def __add__(self, other: Limit) -> Limit:
        return Limit(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    @property
    def bound(self) -> str:
        """What decides: `memory` or `compute`."""
        return "memory" if self.memory_ms >= self.compute_ms else "compute"


@dataclass(frozen=True)
class Hardware:
    """A module at certain clocks; None for its highest.

    Attributes:
        module: the row of the table.
        gpu_mhz, emc_mhz: e.g. what the present power mode allows.
    """

    module: Module
    gpu_mhz: float | None = None
    emc_mhz: float | None = None

    def limit(self, size: float, operations: Mapping[str, float], kernels: int) -> Limit:
        """The least time of a stage that reads `size` bytes and does operations, by their precision."""
        seconds = [count / self.module.operations_per_s(name, self.gpu_mhz) for name, count in operations.items()]
        memory_s, launch_s = size / self.module.gb_per_s(self.emc_mhz) / 1e9, kernels * KERNEL_GAP_S
        least_s = max(memory_s, sum(seconds)) + launch_s
        return Limit(1e3 * least_s, 1e3 * memory_s, 1e3 * sum(seconds), 1e3 * launch_s, size / 1e9)

    def as_json(self) -> dict[str, Any]:
        """What limits were computed for."""
        return {"module": self.module.key, "gpu_mhz": self.gpu_mhz, "emc_mhz": self.emc_mhz}

    def encode(
        self, config: ModelConfig, image_tokens: int, precision: str, counted: tuple[int, int] | None = None
    ) -> Limit:
        """One picture through the vision stage.

        Args:
            config: the model.
            image_tokens: rows of a picture.
            precision: of the stage.
            counted: kernels and bytes that a builder made of it; None for the least that can be.
        """
        vision = config.vision
        attention = config.num_vision_layers * 4 * (vision.grid**2 + 1) ** 2 * vision.hidden_size
        linears = vision_operations(config, image_tokens) - attention
        least = config.num_vision_layers * VISION_LAYER_KERNELS + PROJECTOR_KERNELS, vision_bytes(config, precision)
        kernels, size = counted or least
        return self.limit(size, _by_precision(linears, attention, precision), kernels)

    def decode(
        self, config: ModelConfig, rows: int, past: int, precision: str, counted: tuple[int, int] | None = None
    ) -> Limit:
        """`rows` rows of the decoder behind `past` rows of the cache: a prefill, or with one row a token.

        Args:
            config: the model.
            rows: that are run.
            past: rows of the cache before them.
            precision: of the stage.
            counted: see `encode`.
        """
        layers, width = config.num_hidden_layers, config.num_attention_heads * config.head_dim
        attention = layers * 4 * (rows * past + rows * (rows + 1) // 2) * width
        linears = decoder_operations(config, rows, past) - attention
        size = decoder_bytes(config, precision) + past * cache_row_bytes(config, precision)
        kernels, size = counted or (layers * LAYER_KERNELS + LAST_KERNELS, size)
        return self.limit(size, _by_precision(linears, attention, precision), kernels)


def paper_limits(
    hardware: Hardware,
    config: ModelConfig,
    image_tokens: int,
    precisions: Mapping[str, str],
    prompt_tokens: int,
    contexts: tuple[int, ...],
    counted: Counted | None = None,
) -> dict[str, Limit]:
    """Limits by the names that a benchmark gives its stages.

    Args:
        hardware: the board.
        config: the model.
        image_tokens: rows of a picture.
        precisions: stage to precision; a stage with another than fp32, fp16, int8 and int4 has no limit.
        prompt_tokens: rows of the prompt, the picture's included.
        contexts: rows in the cache before a token.
        counted: what NVIDIA's builder made of the model; None for the least that can be.
    """
    found = {}
    if config.vision is not None and precisions.get(VISION) in WEIGHT_BYTES:
        found["image encode"] = hardware.encode(config, image_tokens, precisions[VISION], counted and counted.image())
    if (precision := precisions[DECODER]) in WEIGHT_BYTES:
        found["prefill"] = hardware.decode(
            config, prompt_tokens, 0, precision, counted and counted.prompt(prompt_tokens)
        )
        if config.vision is None:
            found["TTFT"] = found["prefill"]
        elif "image encode" in found:
            found["TTFT"] = found["image encode"] + found["prefill"]
        for past in contexts:
            found[f"decode after {past}"] = hardware.decode(config, 1, past, precision, counted and counted.token(past))
    return found


def vision_bytes(config: ModelConfig, precision: str) -> float:
    """Bytes of the vision stage's weights: the linears of CLIP's layers in use, patch embedding and projector.

    Of the projector only its linears and 1 x 1 convolutions count, as in `runtime/bench/workload.py`.
    """
    vision, width = config.vision, config.vision.hidden_size
    layer = 4 * width**2 + 2 * width * vision.intermediate_size
    patches = 3 * vision.patch_size**2 * width
    projector = config.mm_hidden_size * config.hidden_size + _squares(config) * config.hidden_size**2
    return (config.num_vision_layers * layer + patches + projector) * WEIGHT_BYTES[precision]


def decoder_bytes(config: ModelConfig, precision: str) -> float:
    """Bytes of the decoder's weights, lm_head's included: all are read for every token."""
    head = config.hidden_size * config.vocab_size
    head_bytes = WEIGHT_BYTES[HEAD_PRECISION.get(precision, precision)]
    return linear_weights(config) * WEIGHT_BYTES[precision] + head * head_bytes


def linear_weights(config: ModelConfig) -> int:
    """Weights of the decoder's linears, without lm_head."""
    width = config.hidden_size
    heads, kv_heads = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    layer = width * (heads + 2 * kv_heads) + heads * width + 3 * width * config.intermediate_size
    return config.num_hidden_layers * layer


def cache_row_bytes(config: ModelConfig, precision: str) -> int:
    """Bytes of one row of the kv cache: a key and a value in every layer."""
    elements = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    return elements * CACHE_BYTES.get(precision, 2)


def _squares(config: ModelConfig) -> int:
    """Linears of the projector behind its first."""
    family = projector_family(config.mm_projector_type)
    if family == "mlp":
        return int(config.mm_projector_type.removeprefix("mlp").split("x")[0]) - 1
    return {"linear": 0, "ldpnet": 3, "ldpnetv2": 1}[family]


def _by_precision(linears: float, attention: float, precision: str) -> dict[str, float]:
    """Operations by the precision they are done in."""
    other = ATTENTION_PRECISION.get(precision, precision)
    return {precision: linears + attention} if other == precision else {precision: linears, other: attention}
