"""Times by stage, in the order of an answer: from repetitions to one list of times a stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .timed_bundle import Repetition, Start

LOAD, FIRST_TTFT = "load", "load and first TTFT"
ENCODE, PREFILL, TTFT = "image encode", "prefill", "TTFT"


def decode_stage(context: int) -> str:
    """Name of decoding behind a kv cache of `context` tokens."""
    return f"decode after {context}"


@dataclass(frozen=True)
class StageTimes:
    """Milliseconds of one stage.

    Attributes:
        name: of the stage.
        runs: a tuple for each repetition: one value, or one for each token where it decodes.
        context: tokens in the kv cache before the first one; None but for decode.
    """

    name: str
    runs: tuple[tuple[float, ...], ...]
    context: int | None = None

    @property
    def mean_of_each(self) -> tuple[float, ...]:
        """One value for each repetition: the mean of its tokens where it decodes."""
        return tuple(float(np.mean(run)) for run in self.runs)

    @property
    def every(self) -> tuple[float, ...]:
        """All values of all repetitions."""
        return tuple(ms for run in self.runs for ms in run)

    def percentile(self, percent: float) -> float:
        """Percentile of all values, interpolated linearly."""
        return float(np.percentile(self.every, percent))


def start_times(starts: Sequence[Start]) -> list[StageTimes]:
    """Collects the stages of opening a bundle, one value for each time that it was opened."""
    return [
        StageTimes(LOAD, tuple((one["load_ms"],) for one in starts)),
        StageTimes(FIRST_TTFT, tuple((one["first_token_ms"],) for one in starts)),
    ]


def question_times(repetitions: Sequence[Repetition]) -> list[StageTimes]:
    """Collects the stages up to the first token; image encode is left out without vision."""
    encoded = [(one["encode_ms"],) for one in repetitions if one["encode_ms"] is not None]
    return [
        *([StageTimes(ENCODE, tuple(encoded))] if encoded else []),
        StageTimes(PREFILL, tuple((one["prefill_ms"],) for one in repetitions)),
        StageTimes(TTFT, tuple((one["ttft_ms"],) for one in repetitions)),
    ]


def decode_times(repetitions: Sequence[Repetition], contexts: Sequence[int]) -> list[StageTimes]:
    """Collects the times of tokens, a stage for each context.

    Args:
        repetitions: what was measured.
        contexts: of its plan.
    """
    return [
        StageTimes(decode_stage(context), tuple(tuple(one["decode_ms"][number]) for one in repetitions), context)
        for number, context in enumerate(contexts)
    ]
