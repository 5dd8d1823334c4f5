"""Measured times beside what the board allows on paper and what others published: stages, energy, a table, JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mobilevlm.runtime.bench.plan import Plan

from .measure import Measured, Window
from .power import Sample, joules
from .rails import rail_sets
from .references import Reference
from .roofline import Limit
from .tables import table

NONE = "-"


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: as `runtime/benchmark.py` calls it.
        each: milliseconds of every repetition; of every single token where it decodes.
        limit: on paper; None where there is none.
        references: published figures.
    """

    name: str
    each: tuple[float, ...]
    limit: Limit | None
    references: tuple[Reference, ...]

    @property
    def median_ms(self) -> float:
        """Of all repetitions, or tokens."""
        return float(np.median(self.each))

    @property
    def p95_ms(self) -> float:
        """Of all repetitions, or tokens."""
        return float(np.percentile(self.each, 95))

    @property
    def decodes(self) -> bool:
        """Whether its time is that of a token."""
        return self.name.startswith("decode")

    def as_json(self) -> dict[str, Any]:
        """Every figure; times in milliseconds."""
        limit = asdict(self.limit) | {"bound": self.limit.bound} if self.limit else None
        speed = {"tokens_per_s": 1e3 / self.median_ms} if self.decodes else {}
        return {
            "median_ms": self.median_ms,
            "p95_ms": self.p95_ms,
            "each_ms": list(self.each),
            "limit": limit,
            "of_limit": self.limit.ms / self.median_ms if self.limit else None,
            "references": [asdict(one) for one in self.references],
        } | speed

    def cells(self) -> list[str]:
        """Its line of the table."""
        speed = f"{1e3 / self.median_ms:.1f}" if self.decodes else ""
        paper = (
            [NONE, NONE] if self.limit is None else [f"{self.limit.ms:.2f}", f"{self.limit.ms / self.median_ms:.2f}"]
        )
        return [self.name, f"{self.median_ms:.2f}", f"{self.p95_ms:.2f}", speed, *paper]


@dataclass(frozen=True)
class Energy:
    """Of one set of rails.

    Attributes:
        name: of the set, `module` or `compute`, or a single rail's.
        rails: that it is the sum of.
        idle_w: before anything was opened.
        answering_w: mean while answers were given one after the other.
        joules_per_answer: all of it, idle power included.
    """

    name: str
    rails: tuple[str, ...]
    idle_w: float | None
    answering_w: float
    joules_per_answer: float


def stages(plan: Plan, measured: Measured, limits: Mapping[str, Limit], references: Any) -> list[Stage]:
    """The stages in the order of an answer.

    Args:
        plan: what was measured.
        measured: what came out.
        limits: stage to limit.
        references: takes a stage's name and returns published figures.
    """
    repetitions = measured.repetitions
    each: dict[str, Sequence[float]] = {
        "load": [measured.start["load_ms"]],
        "load and first TTFT": [measured.start["first_token_ms"]],
    }
    if repetitions[0]["encode_ms"] is not None:
        each["image encode"] = [one["encode_ms"] for one in repetitions]
    each["prefill"] = [one["prefill_ms"] for one in repetitions]
    each["TTFT"] = [one["ttft_ms"] for one in repetitions]
    each["TTFT of a session"] = [one["ttft_ms"] for one in measured.session]
    for number, context in enumerate(plan.contexts):
        each[f"decode after {context}"] = [ms for one in repetitions for ms in one["decode_ms"][number]]
    return [Stage(name, tuple(times), limits.get(name), tuple(references(name))) for name, times in each.items()]


def energies(measured: Measured) -> list[Energy]:
    """Energy by sets of rails; none where there are no rails, or where samples are missing."""
    inside = [one for one in measured.samples if measured.answering.begin_s <= one.at_s <= measured.answering.end_s]
    rails = set.intersection(*(set(one.rails_mw) for one in inside)) if inside else set()
    found = []
    for name, members in rail_sets(rails).items():
        total = _joules(measured.samples, members, measured.answering)
        idle = _joules(measured.samples, members, measured.idle)
        if total is not None:
            answering_w = total / _seconds(measured.answering)
            idle_w = None if idle is None else idle / _seconds(measured.idle)
            found.append(Energy(name, members, idle_w, answering_w, total / measured.answering.answers))
    return found


def _joules(samples: Sequence[Sample], rails: Sequence[str], window: Window) -> float | None:
    return joules(samples, rails, window.begin_s, window.end_s)


def _seconds(window: Window) -> float:
    return window.end_s - window.begin_s


def stage_table(found: Sequence[Stage]) -> str:
    """Measured, beside the limit on paper; `of limit` is the part of it that is reached."""
    header = ["stage", "ms median", "p95", "tokens/s", "limit ms, on paper", "of limit"]
    return table(header, [stage.cells() for stage in found])


def reference_lines(found: Sequence[Stage]) -> list[str]:
    """Published figures that compare, a line each."""
    unique = {one: None for stage in found for one in stage.references}
    return [f"published: {one.stage} {one}, {one.source}" for one in unique]


def energy_lines(found: Sequence[Energy], answering: Window, plan: Plan) -> list[str]:
    """Power and energy in words, or that there are none."""
    if not found:
        return ["power: no rails can be read here (no INA3221, no tegrastats), so joules are not known"]
    what = f"an answer of {1 + plan.decode_tokens} tokens to {plan.prompt_tokens} rows"
    return [
        f"energy, {one.name} ({' + '.join(one.rails)}): {one.joules_per_answer:.2f} J for {what}, "
        f"{one.answering_w:.1f} W over {answering.answers} answers"
        + (f", {one.idle_w:.1f} W idle" if one.idle_w is not None else "")
        for one in found
    ]


def throttling_lines(measured: Measured) -> list[str]:
    """What slowed the board down, and what of that could not be seen."""
    found = measured.throttling
    lines = [f"throttling: {sentence}" for sentence in found.noticed] or ["throttling: none noticed"]
    return lines + ([f"throttling: could not see {', '.join(found.unseen)}"] if found.unseen else [])
