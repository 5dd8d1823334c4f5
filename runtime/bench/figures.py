"""Figures of a bundle's stages: medians with their ranges, beside what the machine would allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.stages import DECODER, PREFILL, VISION

from . import stages as names
from .limits import Limits
from .plan import Plan
from .rounds import Measured
from .stages import StageTimes, decode_times, question_times, start_times
from .workload import decode_bytes, decoder_operations, vision_operations


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest value of the repetitions."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarises one value for each repetition."""
        return cls(float(np.median(values)), float(min(values)), float(max(values)))


@dataclass(frozen=True)
class Stage:
    """Figures of one stage of one bundle.

    Attributes:
        name: of the stage.
        ms: milliseconds of one run; of one token where it decodes.
        limit_ms: the least that the machine's limits allow; None where there is no such limit (load, TTFT).
        each: milliseconds of every repetition, in their order.
        p50_ms, p95_ms: percentiles of single tokens of all repetitions; None but for decode.
        context: tokens in the kv cache before the first one; None but for decode.
    """

    name: str
    ms: Spread
    limit_ms: float | None
    each: tuple[float, ...]
    p50_ms: float | None = None
    p95_ms: float | None = None
    context: int | None = None

    @classmethod
    def of(cls, times: StageTimes, limit_ms: float | None) -> Stage:
        """Computes the figures.

        Args:
            times: what was measured.
            limit_ms: as of the attributes.
        """
        each = times.mean_of_each
        if times.context is None:
            return cls(times.name, Spread.of(each), limit_ms, each)
        percentiles = times.percentile(50), times.percentile(95)
        return cls(times.name, Spread.of(each), limit_ms, each, *percentiles, times.context)

    @property
    def of_limit(self) -> float | None:
        """Part of the machine's limit that the median reaches, 0 to 1."""
        return None if self.limit_ms is None else self.limit_ms / self.ms.median

    @property
    def tokens_per_s(self) -> Spread:
        """Rate of a decode stage."""
        return Spread(1e3 / self.ms.median, 1e3 / self.ms.max, 1e3 / self.ms.min)


def stage_figures(bundle: Bundle, plan: Plan, limits: Limits, measured: Measured) -> list[Stage]:
    """Computes the figures of a bundle's stages, in the order of an answer.

    Args:
        bundle: what was measured.
        plan: how it was measured.
        limits: of the machine.
        measured: what came out.
    """
    repetitions = measured.repetitions
    times = start_times(measured.starts) + question_times(repetitions) + decode_times(repetitions, plan.contexts)
    limits_ms = stage_limits(bundle, plan, limits)
    return [Stage.of(one, limits_ms.get(one.name)) for one in times]


def stage_limits(bundle: Bundle, plan: Plan, limits: Limits) -> dict[str, float]:
    """Computes the least milliseconds of a bundle's stages, by name; none for an NPU or a GPU, which were not measured.

    Args:
        bundle: its model and precisions.
        plan: tokens of the prompt and contexts.
        limits: of this machine's CPU.
    """
    if bundle.manifest.parts:
        return {}
    config, forms, found = bundle.config, bundle.manifest.forms, {}
    if bundle.has_vision:
        operations = vision_operations(config)
        found[names.ENCODE] = 1e3 * operations / limits.operations_per_s(forms[VISION].products)
    speed = limits.operations_per_s(forms.get(PREFILL, forms[DECODER]).products)
    found[names.PREFILL] = 1e3 * decoder_operations(config, plan.prompt_tokens) / speed
    for context in plan.contexts:
        found[names.decode_stage(context)] = decode_bytes(bundle, context) / limits.read_gb_per_s / 1e6
    return found
