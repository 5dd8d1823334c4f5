"""Report of a benchmark run: tables for people, in Markdown, and the same as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.tables import aligned_table

from .figures import Stage
from .limits import SIDE, Limits
from .plan import Plan
from .profile import OperatorTime
from .quiet import BUSY
from .ratios import COLUMNS, Ratio
from .rounds import Measured

UNKNOWN = "not available"
LISTED = 12  # rows of a profile; the other operators are summed up in one more


@dataclass(frozen=True)
class Result:
    """Everything that was found of one bundle.

    Attributes:
        bundle: the bundle.
        stages: figures of its stages.
        measured: what they were computed from.
        profile: operators of each stage; empty where none was asked for.
    """

    bundle: Bundle
    stages: list[Stage]
    measured: Measured
    profile: Mapping[str, Sequence[OperatorTime]]

    @property
    def title(self) -> str:
        """Directory, name and precisions of the bundle."""
        manifest = self.bundle.manifest
        precisions = ", ".join(f"{stage} {precision}" for stage, precision in manifest.precision.items())
        return f"{self.bundle.directory} ({manifest.name}, {precisions})"

    def as_json(self) -> dict[str, Any]:
        """Returns every figure; times in milliseconds."""
        manifest = self.bundle.manifest
        named = {name: getattr(manifest, name) for name in ("name", "target", "precision", "max_context")}
        others = self.measured.other_cores
        return (
            {"engine": str(self.bundle.directory)}
            | named
            | {"stages": {stage.name: _stage_as_json(stage) for stage in self.stages}}
            | self.measured.memory
            | {"other_cores": others, "noisy": [cores is not None and cores > BUSY for cores in others]}
            | {"profile": {stage: [asdict(row) for row in rows] for stage, rows in self.profile.items()}}
        )


@dataclass(frozen=True)
class Report:
    """Report of a whole run; `str` gives the tables.

    Attributes:
        machine: see `describe_machine`.
        limits: of the machine.
        plan: what was measured.
        results: one for each bundle.
        ratios: of two bundles; none for one.
    """

    machine: Mapping[str, Any]
    limits: Limits
    plan: Plan
    results: list[Result]
    ratios: list[Ratio]

    def as_json(self) -> dict[str, Any]:
        """Returns the figures of the tables for programs."""
        return {
            "machine": self.machine,
            "limits": asdict(self.limits),
            "plan": asdict(self.plan),
            "engines": [result.as_json() for result in self.results],
            "ratios": [asdict(ratio) for ratio in self.ratios],
        }

    def __str__(self) -> str:
        parts = [_machine(self.machine), _limits(self.limits)]
        for letter, result in zip("AB", self.results, strict=False):
            name = f"{letter} = {result.title}" if self.ratios else result.title
            parts += [_about(name, self.plan, result), _stages(result.stages), _decode(result.stages), _memory(result)]
            parts += [f"profile, {stage}\n{_profile(rows)}" for stage, rows in result.profile.items()]
        if self.ratios:
            parts += ["B / A, round by round; below 1 B is faster\n" + _ratios(self.ratios, *self.results)]
        return "\n\n".join(parts)


def _stage_as_json(stage: Stage) -> dict[str, Any]:
    speed = {"tokens_per_s": asdict(stage.tokens_per_s)} if stage.context is not None else {}
    return asdict(stage) | {"of_limit": stage.of_limit} | speed


def _machine(machine: Mapping[str, Any]) -> str:
    memory = UNKNOWN if machine["memory_gib"] is None else f"{machine['memory_gib']:.1f} GiB"
    governor = machine["governor"] or UNKNOWN
    return (
        f"{machine['cpu']}, {machine['cores']} cores, memory {memory}, clock governor {governor}; {machine['system']}; "
        f"ONNX Runtime {machine['onnxruntime']}, numpy {machine['numpy']}, Python {machine['python']}"
    )


def _limits(limits: Limits) -> str:
    return (
        f"limits of the machine, the best seen: memory is read at {limits.read_gb_per_s:.1f} GB/s ({limits.threads} "
        f"threads); ONNX Runtime multiplies {SIDE} x {SIDE} matrices at {limits.fp32_gflop_per_s:.0f} GFLOP/s in "
        f"float32, {limits.int8_gop_per_s:.0f} GOP/s in int8"
    )


def _about(name: str, plan: Plan, result: Result) -> str:
    described = plan.described(result.bundle.manifest.num_image_tokens)
    return f"{name}\nmedians of {len(result.measured.repetitions)} repetitions; {described}"


def _stages(stages: Sequence[Stage]) -> str:
    rows = [
        [stage.name, f"{stage.ms.median:.1f}", f"{stage.ms.min:.1f}-{stage.ms.max:.1f}", *_limit(stage, 1)]
        for stage in stages
        if stage.context is None
    ]
    return aligned_table(["stage", "ms", "min-max", "limit ms", "of limit"], rows)


def _decode(stages: Sequence[Stage]) -> str:
    rows = []
    for stage in stages:
        if stage.context is not None:
            speed = stage.tokens_per_s
            figures = [f"{speed.median:.1f}", f"{speed.min:.1f}-{speed.max:.1f}"]
            rows.append([stage.name, *figures, f"{stage.p50_ms:.2f}", f"{stage.p95_ms:.2f}", *_limit(stage, 2)])
    return aligned_table(["stage", "tokens/s", "min-max", "ms p50", "p95", "limit ms", "of limit"], rows)


def _limit(stage: Stage, digits: int) -> list[str]:
    return ["", ""] if stage.limit_ms is None else [f"{stage.limit_ms:.{digits}f}", f"{stage.of_limit:.2f}"]


def _memory(result: Result) -> str:
    one, full = (
        UNKNOWN if value is None else f"{value:.0f} MiB"
        for value in (result.measured.memory[name] for name in ("peak_rss_mib", "peak_rss_full_mib"))
    )
    others = [
        UNKNOWN if cores is None else f"{cores:.2f}" + " (noisy)" * (cores > BUSY)
        for cores in result.measured.other_cores
    ]
    return (
        f"peak RSS {one} after a question and its answer, {full} after a full context\n"
        f"cores used by other processes, repetition by repetition: {', '.join(others)}"
    )


def _profile(times: Sequence[OperatorTime]) -> str:
    shown, rest = list(times[:LISTED]), times[LISTED:]
    if rest:
        sums = (sum(getattr(row, name) for row in rest) for name in ("count", "ms", "share"))
        shown.append(OperatorTime(f"({len(rest)} more)", *sums))
    rows = [[row.operator, f"{row.count:g}", f"{row.ms:.3f}", f"{row.share:.1%}"] for row in shown]
    return aligned_table(["operator", "count", "ms", "share"], rows)


def _ratios(found: Sequence[Ratio], first: Result, second: Result) -> str:
    before, after = ({stage.name: stage.ms.median for stage in result.stages} for result in (first, second))
    return aligned_table(COLUMNS, [item.cells(before[item.stage], after[item.stage]) for item in found])
