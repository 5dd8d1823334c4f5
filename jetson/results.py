"""Figures of a run on a board, as text and JSON: stages beside limits and published figures, energy, throttling."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mobilevlm.engines.tables import aligned_table
from mobilevlm.runtime.bench.plan import Plan
from mobilevlm.runtime.bench.stages import StageTimes, decode_times, question_times, start_times

from .measure import BoardRun, Window
from .power import Sample, joules
from .rails import rail_sets
from .references import Reference
from .roofline import Limit
from .throttling import Throttling

NONE = "-"
SESSION_TTFT = "TTFT of a session"


@dataclass(frozen=True)
class BoardStage:
    """Figures of one stage on a board.

    Attributes:
        times: what was measured.
        limit: the least time on paper; None where there is no such limit.
        references: published figures.
    """

    times: StageTimes
    limit: Limit | None
    references: tuple[Reference, ...]

    @property
    def name(self) -> str:
        """Name of the stage, as `runtime/benchmark.py` has it."""
        return self.times.name

    @property
    def decodes(self) -> bool:
        """Whether its times are those of tokens."""
        return self.times.context is not None

    @property
    def median_ms(self) -> float:
        """Median of all repetitions, or of all their tokens."""
        return self.times.percentile(50)

    @property
    def p95_ms(self) -> float:
        """95th percentile of all repetitions, or of all their tokens."""
        return self.times.percentile(95)

    @property
    def of_limit(self) -> float | None:
        """Part of the limit on paper that the median reaches, 0 to 1."""
        return self.limit.ms / self.median_ms if self.limit else None

    def as_json(self) -> dict[str, Any]:
        """Returns every figure; times in milliseconds."""
        limit = asdict(self.limit) | {"bound": self.limit.bound} if self.limit else None
        speed = {"tokens_per_s": 1e3 / self.median_ms} if self.decodes else {}
        return {
            "median_ms": self.median_ms,
            "p95_ms": self.p95_ms,
            "each_ms": list(self.times.every),
            "limit": limit,
            "of_limit": self.of_limit,
            "references": [asdict(one) for one in self.references],
        } | speed

    def cells(self) -> list[str]:
        """Returns its row of the table."""
        speed = f"{1e3 / self.median_ms:.1f}" if self.decodes else ""
        paper = [NONE, NONE] if self.limit is None else [f"{self.limit.ms:.2f}", f"{self.of_limit:.2f}"]
        return [self.name, f"{self.median_ms:.2f}", f"{self.p95_ms:.2f}", speed, *paper]


@dataclass(frozen=True)
class Energy:
    """Power and energy of one set of rails.

    Attributes:
        name: `module`, `compute`, or the name of a single rail.
        rails: names of the rails that are summed up.
        idle_w: mean power before the bundle was opened; None where it is not known.
        answering_w: mean power while answers were given one after the other.
        joules_per_answer: energy of an answer, idle power included.
    """

    name: str
    rails: tuple[str, ...]
    idle_w: float | None
    answering_w: float
    joules_per_answer: float


def board_stages(
    plan: Plan,
    run: BoardRun,
    limits: Mapping[str, Limit],
    references: Callable[[str], Sequence[Reference]],
) -> list[BoardStage]:
    """Computes the figures of the stages, in the order of an answer.

    Args:
        plan: what was measured.
        run: what came out.
        limits: least times on paper by stage.
        references: returns published figures for a stage's name.
    """
    repetitions = run.bundle.repetitions
    through_session = StageTimes(SESSION_TTFT, tuple((one["ttft_ms"],) for one in run.session))
    times = [
        *start_times(run.bundle.starts),
        *question_times(repetitions),
        through_session,
        *decode_times(repetitions, plan.contexts),
    ]
    return [BoardStage(one, limits.get(one.name), tuple(references(one.name))) for one in times]


def energies(run: BoardRun) -> list[Energy]:
    """Computes the energy by sets of rails; none where there are no rails, or where samples are missing."""
    inside = [one for one in run.samples if run.answering.begin_s <= one.at_s <= run.answering.end_s]
    rails = set.intersection(*(set(one.rails_mw) for one in inside)) if inside else set()
    found = []
    for name, members in rail_sets(rails).items():
        total = _joules(run.samples, members, run.answering)
        idle = _joules(run.samples, members, run.idle)
        if total is not None:
            answering_w = total / _seconds(run.answering)
            idle_w = None if idle is None else idle / _seconds(run.idle)
            found.append(Energy(name, members, idle_w, answering_w, total / run.answering.answers))
    return found


def _joules(samples: Sequence[Sample], rails: Sequence[str], window: Window) -> float | None:
    return joules(samples, rails, window.begin_s, window.end_s)


def _seconds(window: Window) -> float:
    return window.end_s - window.begin_s


def stage_table(found: Sequence[BoardStage]) -> str:
    """Lays out measured times beside limits on paper; `of limit` is the part of the limit that is reached."""
    header = ["stage", "ms median", "p95", "tokens/s", "limit ms, on paper", "of limit"]
    return aligned_table(header, [stage.cells() for stage in found])


def reference_lines(found: Sequence[BoardStage]) -> list[str]:
    """Lists published figures that compare, a line each."""
    unique = {one: None for stage in found for one in stage.references}
    return [f"published: {one.stage} {one}, {one.source}" for one in unique]


def energy_lines(found: Sequence[Energy], answering: Window, plan: Plan) -> list[str]:
    """Describes power and energy, or says that they are not known.

    Args:
        found: energy by sets of rails.
        answering: the period it was measured in.
        plan: tokens of an answer.
    """
    if not found:
        return ["power: no rails can be read here (no INA3221, no tegrastats), so joules are not known"]
    what = f"an answer of {1 + plan.decode_tokens} tokens to a prompt of {plan.prompt_tokens}"
    return [
        f"energy, {one.name} ({' + '.join(one.rails)}): {one.joules_per_answer:.2f} J for {what}, "
        f"{one.answering_w:.1f} W over {answering.answers} answers"
        + (f", {one.idle_w:.1f} W idle" if one.idle_w is not None else "")
        for one in found
    ]


def throttling_lines(found: Throttling) -> list[str]:
    """Describes what slowed the board down, and what of that could not be observed."""
    lines = [f"throttling: {sentence}" for sentence in found.noticed] or ["throttling: none noticed"]
    return lines + ([f"throttling: could not see {', '.join(found.unseen)}"] if found.unseen else [])
