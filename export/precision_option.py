"""The `--precision` option: which precision each stage has, from a person's words or the target's preferences.

Facts of precisions are asked for, PyTorch is not: mistakes are refused before anything slow is imported.
"""

from __future__ import annotations

from mobilevlm.engines.stages import DECODER, PREFILL
from mobilevlm.engines.targets import STAGES_WITH_PRECISION, Target
from mobilevlm.errors import UserError

from .precisions import facts_of


def default_precision(target: Target) -> dict[str, str]:
    """A target's precision for every stage where none is asked for: the first preferred that suits this machine."""
    return {
        stage: next((name for name in names if facts_of(target.backend, name).suits_machine()), names[-1])
        for stage, names in target.preferred.items()
    }


def parse_precision(text: str | None, target: Target) -> dict[str, str]:
    """Read `--precision`: one for all stages (`fp16`), or some by stage (`vision=fp32,decoder=fp16`).

    Asked for as one for all, a quantised precision is in each stage the smallest that the stage has: `int4` is
    `vision=int8,decoder=int4`.

    Args:
        text: the option's value, or None for the target's default.
        target: the row that says what is possible.

    Returns:
        A precision for every stage.

    Raises:
        UserError: a stage or precision the target does not have, or a prefill that does not go with the decoder.
    """
    own = default_precision(target)
    if text is None:
        return own
    chosen: dict[str, str] = {}
    for part in text.split(","):
        stage, separator, precision = part.strip().rpartition("=")
        _check_names(stage, precision, target, named=bool(separator))
        stages = (stage,) if separator else STAGES_WITH_PRECISION
        if repeated := [name for name in stages if name in chosen]:
            raise UserError(f"--precision {text} names {repeated[0]} twice: give each stage one precision")
        chosen |= {name: _of_stage(name, precision, target, named=bool(separator)) for name in stages}
    # A separate prefill comes with the default decoder, beside another it is asked for by name.
    spare = {PREFILL} if DECODER in chosen else set()
    chosen = {stage: name for stage, name in own.items() if stage not in spare} | chosen
    if PREFILL in chosen:
        _check_prefill(chosen, own[PREFILL], target)
    return chosen


def _check_names(stage: str, precision: str, target: Target, named: bool) -> None:
    available = list(dict.fromkeys(name for names in target.precisions.values() for name in names))
    if precision not in available:
        raise UserError(
            f"precision {precision!r} is not available for target {target.name}; it has {', '.join(available)}"
        )
    if named and stage not in (*STAGES_WITH_PRECISION, PREFILL):
        known = ", ".join((*STAGES_WITH_PRECISION, PREFILL))
        raise UserError(f"{stage!r} is no stage with a precision; choose from {known}")
    if stage == PREFILL and PREFILL not in target.preferred:
        raise UserError(f"target {target.name} has no prefill of its own: its decoder runs prompts itself")


def _check_prefill(chosen: dict[str, str], own: str, target: Target) -> None:
    """Refuse a separate prefill that does not go with the decoder; `own` is the target's default for it."""
    asked, usual = (facts_of(target.backend, name).prefill for name in (chosen[PREFILL], own))
    if asked is None or asked.decoder != chosen[DECODER]:
        beside = usual.decoder if usual else ""
        raise UserError(
            f"a prefill of its own is {PREFILL}={own} beside {DECODER}={beside}, and this is "
            f"{PREFILL}={chosen[PREFILL]} beside {DECODER}={chosen[DECODER]}: other decoders run prompts themselves"
        )


def _of_stage(stage: str, precision: str, target: Target, named: bool) -> str:
    """What a stage has for a precision: itself, or for one that was asked for all stages the smallest quantised one."""
    own = target.precisions.get(stage, (precision,))
    if precision in own:
        return precision
    if not all(facts_of(target.backend, name).form.quantized for name in (precision, own[-1])):
        raise UserError(f"target {target.name} has no {stage}={precision}: choose {stage}= from {', '.join(own)}")
    if named:
        raise UserError(
            f"target {target.name} has no {stage}={precision}, because {stage}={own[-1]} is quicker there and more "
            f"exact: use {stage}={own[-1]}"
        )
    return own[-1]
