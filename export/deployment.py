"""Candidates of a deployment: which precisions are tried, which one is chosen, and the table that says why."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mobilevlm.commands import command
from mobilevlm.engines.stages import DECODER
from mobilevlm.engines.tables import aligned_table
from mobilevlm.engines.targets import Target
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
        n: number of questions.
        accuracy: in percent.
        loss: percentage points of accuracy below the reference's; negative where it is better.
        low, high: the middle 95 % of the loss over paired bootstrap samples of the questions.
        same: share of answers that are the reference's word for word, in percent.
        ttft_ms: image and prompt up to the first token.
        token_ms: each further token.
        answer_ms: a whole answer.
        ratio: time of an answer by the reference's of the same round, median over the rounds.
        ratio_low, ratio_high: the middle 95 % of it over bootstrap samples of the rounds.
    """

    name: str
    megabytes: float
    n: int
    accuracy: float
    loss: float
    low: float
    high: float
    same: float
    ttft_ms: float
    token_ms: float
    answer_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float


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
    if target.is_chosen_on_its_device:
        auto, choose = command(*build, "--precision", "auto"), command("runtime/choose.py", "--engine", "DIR")
        raise UserError(f"{here}: run `{auto}`, copy the folder there, and run `{choose}` on it")
    if not target.is_a_cpu or (target.xnnpack and platform.machine() not in ARM):
        names = ", ".join(target.precisions[DECODER])
        ask = command("eval/questions.py", "--questions", "FILE", "--engine", "DIR", "--engine", "DIR")
        times = command("runtime/answer_times.py", "--engine", "DIR", "--engine", "DIR")
        raise UserError(
            f"{here}: run `{command(*build, '--precision', 'P')}` for {names}, copy the folders there, and run "
            f"`{ask}` and `{times}`"
        )


@dataclass(frozen=True)
class Outcome:
    """What was measured, and what is chosen by it.

    Attributes:
        measured: the reference first, then the candidates.
        failed: names of the candidates that could not be built.
        choosable: names of the candidates.
        accept: percentage points of accuracy that may be lost.
        tokens: of the answer that was timed.
    """

    measured: Sequence[Measured]
    failed: Sequence[str]
    choosable: Sequence[str]
    accept: float
    tokens: int

    @property
    def reference(self) -> Measured:
        """Figures of what losses are measured from."""
        return self.measured[0]

    def is_within(self, one: Measured) -> bool:
        """Tells whether the loss is accepted: the point estimate decides."""
        return one.loss <= self.accept + ROUNDING

    @property
    def chosen(self) -> Measured | None:
        """Candidate with the quickest answer within the accepted loss; None where nothing could be lost, too.

        Ratios of the same rounds decide: what slows a whole round down drops out of them.
        """
        return min(self._good(), key=lambda one: one.ratio, default=None) if self.reference.accuracy else None

    def _good(self) -> list[Measured]:
        return [one for one in self.measured if one.name in self.choosable and self.is_within(one)]

    def table(self) -> str:
        """Returns the table, which is Markdown as well, in the order of the answers' times."""
        columns = [
            "precision", "MB", "accuracy %", "loss", "95 % interval", "same answer %", "TTFT, ms", "a token, ms",
            f"{self.tokens} tokens, ms", f"by {self.reference.name}", "95 % interval", "",
        ]  # fmt: skip
        rows = []
        for one in sorted(self.measured, key=lambda one: one.ratio):
            loss = [f"{one.accuracy:.1f}", f"{one.loss:+.1f}", f"{one.low:+.1f} to {one.high:+.1f}", f"{one.same:.1f}"]
            times = [f"{one.ttft_ms:.1f}", f"{one.token_ms:.2f}", f"{one.answer_ms:.1f}"]
            ratio = [f"{one.ratio:.2f}", f"{one.ratio_low:.2f} to {one.ratio_high:.2f}"]
            rows.append([one.name, f"{one.megabytes:.1f}", *loss, *times, *ratio, self._verdict(one)])
        rows += [[name, *[""] * (len(columns) - 2), "not built"] for name in self.failed]
        return aligned_table(columns, rows)

    def _verdict(self, one: Measured) -> str:
        if one == self.chosen:
            return "chosen"
        if one.name not in self.choosable:
            return "reference"
        return "within" if self.is_within(one) else "loses too much"

    def reason(self) -> str:
        """Says why the precision was chosen, or why none is."""
        reference, chosen = self.reference, self.chosen
        if not reference.accuracy:
            return (
                f"None: {reference.name} answers none of {reference.n} questions as the file does, so that no loss "
                "can be seen: have them ask for answers in the file's form, such as a single word."
            )
        if chosen is not None:
            text = f"Chosen: {chosen.name}, the quickest answer within --accept {self.accept:g}. On {chosen.n} "
            text += f"questions it loses {_points(chosen)} to {reference.name}."
            if chosen.high > self.accept:
                text += " The interval reaches beyond --accept: more questions would tell more."
            if chosen.low == chosen.high and chosen is not reference:
                # The bootstrap knows what was asked alone: of what none of n questions showed, there may be 3 / n.
                text += f" No question tells them apart, which leaves room for a loss of {300 / chosen.n:.1f} points."
            if near := [one.name for one in self._good() if one != chosen and one.ratio <= chosen.ratio_high]:
                text += f" Not clearly slower: {', '.join(near)}."
            return text
        candidates = [one for one in self.measured if one.name in self.choosable]
        if not candidates:
            return "None: no candidate could be built."
        least = min(candidates, key=lambda one: one.loss)
        enough = math.ceil(100 * (least.loss - ROUNDING)) / 100
        return (
            f"None: {least.name} loses least on {least.n} questions, {_points(least)} to {reference.name}; "
            f"it is within --accept {enough:g}."
        )


def _points(one: Measured) -> str:
    return f"{one.loss:.2f} percentage points (95 % within {one.low:.2f} and {one.high:.2f})"
