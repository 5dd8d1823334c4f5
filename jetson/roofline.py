"""A paper model of one stage: the least time that a board's memory, arithmetic and launches allow. Nothing is measured.

The larger of bytes over bandwidth and operations over peak, as if the two always overlapped, plus a gap behind every
kernel, as if kernels were as few as fusion can make them. A measured time below it is a mistake in one of the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.engines.stage_form import FP16, FP32, INT8, StageForm
from mobilevlm.engines.stages import DECODER, VISION
from mobilevlm.engines.targets import TENSORRT
from mobilevlm.engines.tensorrt.counted import Counted
from mobilevlm.model.projectors import projector_of
from mobilevlm.runtime.bench.workload import decoder_operations, vision_operations

from .modules import OPERATIONS_PER_CYCLE, Module

# Forms of the precisions that TensorRT's targets have, for limits without a bundle; a bundle notes its own. A test
# holds them against the precisions' files.
PAPER = {
    "fp32": StageForm(FP32, FP32, 4, 4, "float32", TENSORRT),
    "fp16": StageForm(FP16, FP16, 2, 2, "float16", TENSORRT),
    # Products of two activations are not quantised: an image's 577 rows are too many for TensorRT's int8 attention.
    # lm_head, whose error goes into every token, is float16.
    "int8": StageForm(INT8, FP16, 1, 2, "float16", TENSORRT, quantized=True),
    # Weights are widened before their products; a float16 scale for each block of 128.
    "int4": StageForm(FP16, FP16, 0.5 + 2 / 128, 2, "float16", TENSORRT, quantized=True),
}
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
        """Least time of a stage.

        Args:
            size: bytes that it reads.
            operations: type of products to their number.
            kernels: launches.
        """
        seconds = [count / self.module.operations_per_s(name, self.gpu_mhz) for name, count in operations.items()]
        memory_s, launch_s = size / self.module.gb_per_s(self.emc_mhz) / 1e9, kernels * KERNEL_GAP_S
        least_s = max(memory_s, sum(seconds)) + launch_s
        return Limit(1e3 * least_s, 1e3 * memory_s, 1e3 * sum(seconds), 1e3 * launch_s, size / 1e9)

    def as_json(self) -> dict[str, Any]:
        """What limits were computed for."""
        return {"module": self.module.key, "gpu_mhz": self.gpu_mhz, "emc_mhz": self.emc_mhz}

    def encode(self, config: ModelConfig, form: StageForm, counted: tuple[int, int] | None = None) -> Limit:
        """One image through the vision stage.

        Args:
            config: the model.
            form: of the stage.
            counted: kernels and bytes that a builder made of it; None for the least that can be.
        """
        vision = config.tower
        attention = config.num_vision_layers * 4 * vision.num_rows**2 * vision.hidden_size
        linears = vision_operations(config) - attention
        least = config.num_vision_layers * VISION_LAYER_KERNELS + PROJECTOR_KERNELS, vision_bytes(config, form)
        kernels, size = counted or least
        return self.limit(size, _by_type(linears, attention, form), kernels)

    def decode(
        self, config: ModelConfig, rows: int, past: int, form: StageForm, counted: tuple[int, int] | None = None
    ) -> Limit:
        """Rows of the decoder behind those of the cache: a prefill, or with one row a token.

        Args:
            config: the model.
            rows: that are run.
            past: rows of the cache before them.
            form: of the stage.
            counted: see `encode`.
        """
        layers, width = config.num_hidden_layers, config.num_attention_heads * config.head_dim
        attention = layers * 4 * (rows * past + rows * (rows + 1) // 2) * width
        linears = decoder_operations(config, rows, past) - attention
        size = decoder_bytes(config, form) + past * cache_row_bytes(config, form)
        kernels, size = counted or (layers * LAYER_KERNELS + LAST_KERNELS, size)
        return self.limit(size, _by_type(linears, attention, form), kernels)


def paper_limits(
    hardware: Hardware,
    config: ModelConfig,
    forms: Mapping[str, StageForm],
    prompt_tokens: int,
    contexts: tuple[int, ...],
    counted: Counted | None = None,
) -> dict[str, Limit]:
    """Limits by the names that a benchmark gives its stages.

    Args:
        hardware: the board.
        config: the model.
        forms: of the stages; one with products of a type that the board has no peak for has no limit.
        prompt_tokens: rows of the prompt, the picture's included.
        contexts: rows in the cache before a token.
        counted: what NVIDIA's builder made of the model; None for the least that can be.
    """
    found = {}
    if VISION in forms and forms[VISION].products in OPERATIONS_PER_CYCLE:
        found["image encode"] = hardware.encode(config, forms[VISION], counted.image() if counted else None)
    if (form := forms[DECODER]).products in OPERATIONS_PER_CYCLE:
        prompt = counted.prompt(prompt_tokens) if counted else None
        found["prefill"] = hardware.decode(config, prompt_tokens, 0, form, prompt)
        if config.vision is None:
            found["TTFT"] = found["prefill"]
        elif "image encode" in found:
            found["TTFT"] = found["image encode"] + found["prefill"]
        for past in contexts:
            token = counted.token(past) if counted else None
            found[f"decode after {past}"] = hardware.decode(config, 1, past, form, token)
    return found


def vision_bytes(config: ModelConfig, form: StageForm) -> float:
    """Bytes of the vision stage's weights: the linears of CLIP's layers in use, patch embedding and projector.

    Args:
        config: the model; of its projector linears and 1 x 1 convolutions count, as in `runtime/bench/workload.py`.
        form: of the stage.
    """
    vision = config.tower
    layer = 4 * vision.hidden_size**2 + 2 * vision.hidden_size * vision.intermediate_size
    patches = 3 * vision.patch_size**2 * vision.hidden_size
    projector = projector_of(config).num_weights(config)
    return (config.num_vision_layers * layer + patches + projector) * form.weight_bytes


def decoder_bytes(config: ModelConfig, form: StageForm) -> float:
    """Bytes of the decoder's weights, lm_head's included: all are read for every token.

    Args:
        config: the model.
        form: of the decoder.
    """
    return linear_weights(config) * form.weight_bytes + config.hidden_size * config.vocab_size * form.head_bytes


def linear_weights(config: ModelConfig) -> int:
    """Weights of the decoder's linears, without lm_head."""
    width = config.hidden_size
    heads, kv_heads = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    layer = width * (heads + 2 * kv_heads) + heads * width + 3 * width * config.intermediate_size
    return config.num_hidden_layers * layer


def cache_row_bytes(config: ModelConfig, form: StageForm) -> int:
    """Bytes of one row of the kv cache: a key and a value in every layer.

    Args:
        config: the model.
        form: of the decoder.
    """
    elements = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    return elements * np.dtype(form.cache_dtype).itemsize


def _by_type(linears: float, attention: float, form: StageForm) -> dict[str, float]:
    """Type of products to the number of operations."""
    if form.attention == form.products:
        return {form.products: linears + attention}
    return {form.products: linears, form.attention: attention}
