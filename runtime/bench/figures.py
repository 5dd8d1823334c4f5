"""Repetitions in, figures out: medians with their ranges, beside what the machine would allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.stages import DECODER, PREFILL, VISION

from .limits import Limits
from .plan import Plan
from .rounds import Measured
from .workload import decode_bytes, decoder_operations, vision_operations


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of the repetitions."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of one value a repetition."""
        return cls(float(np.median(values)), float(min(values)), float(max(values)))


@dataclass(frozen=True)
class Stage:
    """One stage of one bundle.

    Attributes:
        name: for people.
        ms: of one run; of one token where it is a decode stage.
        limit_ms: the least the machine's limits allow; None where there is none (load, TTFT).
        each: the milliseconds of every repetition, in their order.
        p50_ms, p95_ms: of single tokens of all repetitions; None but for decode.
        context: rows in the kv cache before the first token; None but for decode.
    """

    name: str
    ms: Spread
    limit_ms: float | None
    each: tuple[float, ...]
    p50_ms: float | None = None
    p95_ms: float | None = None
    context: int | None = None

    @property
    def of_limit(self) -> float | None:
        """Part of the machine's limit that the median reaches."""
        return None if self.limit_ms is None else self.limit_ms / self.ms.median

    @property
    def tokens_per_s(self) -> Spread:
        """Of a decode stage."""
        return Spread(1e3 / self.ms.median, 1e3 / self.ms.max, 1e3 / self.ms.min)


def stages(bundle: Bundle, plan: Plan, limits: Limits, measured: Measured) -> list[Stage]:
    """A bundle's figures, in the order of an answer.

    Args:
        bundle: what was measured.
        plan: how.
        limits: the machine's.
        measured: its times.
    """
    repetitions, on_cpu = measured.repetitions, not bundle.manifest.parts  # an NPU's limits are not the machine's
    encode_ms, prefill_ms = _limits_ms(bundle, plan, limits) if on_cpu else (None, None)
    found = [_stage("load", [one["load_ms"] for one in measured.starts])]
    found.append(_stage("load and first TTFT", [one["first_token_ms"] for one in measured.starts]))
    if bundle.has_vision:
        found.append(_stage("image encode", [one["encode_ms"] for one in repetitions], encode_ms))
    found.append(_stage("prefill", [one["prefill_ms"] for one in repetitions], prefill_ms))
    found.append(_stage("TTFT", [one["ttft_ms"] for one in repetitions]))
    for number, context in enumerate(plan.contexts):
        tokens = np.array([one["decode_ms"][number] for one in repetitions])
        step_ms = decode_bytes(bundle, context) / limits.read_gb_per_s / 1e6 if on_cpu else None
        p50, p95 = (float(value) for value in np.percentile(tokens, [50, 95]))
        found.append(_stage(f"decode after {context}", tokens.mean(1).tolist(), step_ms, p50, p95, context))
    return found


def _limits_ms(bundle: Bundle, plan: Plan, limits: Limits) -> tuple[float | None, float]:
    """The least milliseconds of image encode, where there is one, and of prefill."""
    config, precision, encode_ms = bundle.config, bundle.manifest.precision, None
    if bundle.has_vision:
        operations = vision_operations(config, bundle.manifest.num_image_tokens)
        encode_ms = 1e3 * operations / limits.operations_per_s(precision[VISION])
    speed = limits.operations_per_s(precision.get(PREFILL, precision[DECODER]))
    return encode_ms, 1e3 * decoder_operations(config, plan.prompt_tokens) / speed


def _stage(name: str, each: Sequence[float], limit_ms: float | None = None, *decode: Any) -> Stage:
    return Stage(name, Spread.of(each), limit_ms, tuple(each), *decode)
