"""Candidates of a deployment: which precisions are tried, which one is chosen, and the table that says why."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mobilevlm.commands import command
from mobilevlm.engines.stages import DECODER
from mobilevlm.engines.tables import aligned_table
from mobilevlm.engines.targets import TENSORRT, Target
from mobilevlm.errors import UserError

from .precision_option import parse_precision

DEFAULT = "default"  # name of the target's own precisions
ARM = ("aarch64", "arm64")
ROUNDING = 1e-9  # of a loss: a difference of two percentages


@dataclass(frozen=True)
class Candidate:
    """Precisions to try.

    Attributes:
        name: as `--precision` takes it, or `DEFAULT`.
        precisions: stage to precision.
    """

    name: str
    precisions: Mapping[str, str]

    @property
    def folder(self) -> str:
        """Name of its bundle's folder."""
        return self.name.replace("=", "-").replace(",", "-")


@dataclass(frozen=True)
class Measured:
    """Figures of a candidate that was built.

    Attributes:
        name: the candidate's.
        megabytes: size of its bundle.
        accuracy: in percent.
        loss: percentage points of accuracy below the reference's; negative where it is better.
        low, high: the middle 95 % of the loss over paired bootstrap samples of the questions.
        same: share of answers that are the reference's word for word, in percent.
        ttft_ms: image and prompt up to the first token.
        token_ms: each further token.
        answer_ms: a whole answer.
        ratio: `answer_ms` by the reference's.
    """

    name: str
    megabytes: float
    accuracy: float
    loss: float
    low: float
    high: float
    same: float
    ttft_ms: float
    token_ms: float
    answer_ms: float
    ratio: float


def candidates_of(target: Target, words: Sequence[str] | None) -> tuple[Candidate, list[Candidate]]:
    """Returns the reference, which is the target's most exact precision, and the candidates, the fewest bits first.

    Args:
        target: that is built for.
        words: of `--precisions`: names with commas between them, and `stage=P,stage=P`; None for all of the target's.

    Raises:
        UserError: a precision that the target does not have.
    """
    exact = target.precisions[DECODER][0]
    names = [DEFAULT, *reversed(target.precisions[DECODER])]
    if words is not None:
        names = [name.strip() for word in words for name in ([word] if "=" in word else word.split(","))]
    found: dict[tuple[tuple[str, str], ...], Candidate] = {}
    for name in names:
        precisions = parse_precision(None if name == DEFAULT else name, target)
        found.setdefault(tuple(sorted(precisions.items())), Candidate(name, precisions))
    return Candidate(exact, parse_precision(exact, target)), list(found.values())


def refuse_elsewhere(target: Target) -> None:
    """Refuses a target that this machine cannot answer and be timed as.

    Raises:
        UserError: says what to run, here and on the device.
    """
    build = ("export/build_engines.py", "--model", "DIR", "--target", target.name)
    here = f"accuracy and speed of target {target.name} are those of its device, not of this machine"
    if target.backend == TENSORRT:
        auto, choose = command(*build, "--precision", "auto"), command("runtime/choose.py", "--engine", "DIR")
        raise UserError(f"{here}: run `{auto}`, copy the folder there, and run `{choose}` on it")
    if target.backend != "ort" or (target.xnnpack and platform.machine() not in ARM):
        names = ", ".join(target.precisions[DECODER])
        ask = command("eval/questions.py", "--questions", "FILE", "--engine", "DIR", "--engine", "DIR")
        times = command("runtime/answer_times.py", "--engine", "DIR", "--engine", "DIR")
        raise UserError(
            f"{here}: run `{command(*build, '--precision', 'P')}` for {names}, copy the folders there, and run "
            f"`{ask}` and `{times}`"
        )


def within(one: Measured, accept: float) -> bool:
    """Tells whether the loss is accepted: the point estimate decides.

    Args:
        one: a candidate.
        accept: percentage points.
    """
    return one.loss <= accept + ROUNDING


def quickest(measured: Sequence[Measured], choosable: Sequence[str], accept: float) -> Measured | None:
    """Returns the candidate with the quickest answer within the accepted loss; None where there is none.

    Args:
        measured: the reference and the candidates.
        choosable: names of the candidates.
        accept: percentage points of accuracy that may be lost.
    """
    good = [one for one in measured if one.name in choosable and within(one, accept)]
    return min(good, key=lambda one: one.answer_ms, default=None)


def table(
    measured: Sequence[Measured], failed: Sequence[str], choosable: Sequence[str], accept: float, tokens: int
) -> str:
    """Returns the table, which is Markdown as well, in the order of the answers' times.

    Args:
        measured: the reference first, then the candidates.
        failed: names of the candidates that could not be built.
        choosable: names of the candidates.
        accept: percentage points of accuracy that may be lost.
        tokens: of the answer that was timed.
    """
    chosen = quickest(measured, choosable, accept)
    columns = [
        "precision", "MB", "accuracy %", "loss", "95 % interval", "same answer %", "TTFT, ms", "a token, ms",
        f"{tokens} tokens, ms", f"by {measured[0].name}", "",
    ]  # fmt: skip
    rows = []
    for one in sorted(measured, key=lambda one: one.answer_ms):
        verdict = "within" if within(one, accept) else "loses too much"
        if one is chosen:
            verdict = "chosen"
        elif one.name not in choosable:
            verdict = "reference"
        loss = [f"{one.accuracy:.1f}", f"{one.loss:+.1f}", f"{one.low:+.1f} to {one.high:+.1f}", f"{one.same:.1f}"]
        times = [f"{one.ttft_ms:.1f}", f"{one.token_ms:.1f}", f"{one.answer_ms:.1f}", f"{one.ratio:.2f}"]
        rows.append([one.name, f"{one.megabytes:.1f}", *loss, *times, verdict])
    rows += [[name, *[""] * (len(columns) - 2), "not built"] for name in failed]
    return aligned_table(columns, rows)
