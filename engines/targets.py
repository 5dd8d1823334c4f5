"""The targets: a row each. Command-line choices, the README table and tests read this table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mobilevlm.errors import UserError

from .stages import DECODER, PREFILL, VISION

STAGES_WITH_PRECISION = (VISION, DECODER)
# Precisions before which channels are evened out, and after which weights are laid out for the CPU
# (`export/balance.py`, `export/prepack.py`).
QUANTIZED = ("int8", "int4")
# What a prefill of its own can have, and the decoder it goes with: one that is slower at many rows.
PREFILL_PRECISION, PREFILL_DECODER = "int8", "int4"
# Of a decoder: those whose weights are chosen on calibration data (`export/calibration.py`).
CALIBRATED = ("int4",)


@dataclass(frozen=True)
class Target:
    """One kind of device.

    Attributes:
        name: what `--target` takes.
        device: for people.
        backend: which runner executes the stages.
        lowering: how the decoder's attention and cache are written (`export/lowerings/`).
        prefill_lowering: the same of a prefill of its own.
        precisions: those it can run.
        default_precision: stage to precision when none is asked for.
    """

    name: str
    device: str
    backend: str
    lowering: str
    prefill_lowering: str
    precisions: tuple[str, ...]
    default_precision: dict[str, str]


TARGETS = {
    target.name: target
    for target in (
        Target(
            name="host",
            device="the CPU at hand (x86-64 or Arm), ONNX Runtime",
            backend="ort",
            lowering="gqa",
            prefill_lowering="prompt",
            precisions=("fp32", "fp16", "int8", "int4"),
            # The quickest in README's table.
            default_precision={VISION: "int8", PREFILL: PREFILL_PRECISION, DECODER: PREFILL_DECODER},
        ),
    )
}


def has_int8_cache(precisions: Mapping[str, str]) -> bool:
    """Whether a bundle's kv cache is int8: a decoder's steps are quicker on it, its prompts slower.

    So it comes with a prefill of its own (`export/lowerings/prompt.py`), which reads it otherwise.
    """
    return PREFILL in precisions


def parse_precision(text: str | None, target: Target) -> dict[str, str]:
    """Read `--precision`: one for all stages (`fp16`), or some by stage (`vision=fp32,decoder=fp16`).

    Args:
        text: the option's value, or None for the target's default.
        target: the row that says what is possible.

    Returns:
        A precision for every stage.

    Raises:
        UserError: a stage or precision the target does not have, or a prefill that does not go with the decoder.
    """
    if text is None:
        return dict(target.default_precision)
    chosen: dict[str, str] = {}
    for part in text.split(","):
        stage, separator, precision = part.strip().rpartition("=")
        if precision not in target.precisions:
            raise UserError(
                f"precision {precision!r} is not available for target {target.name}; it has "
                f"{', '.join(target.precisions)}"
            )
        if separator and stage not in (*STAGES_WITH_PRECISION, PREFILL):
            known = ", ".join((*STAGES_WITH_PRECISION, PREFILL))
            raise UserError(f"{stage!r} is no stage with a precision; choose from {known}")
        stages = (stage,) if separator else STAGES_WITH_PRECISION
        if repeated := [name for name in stages if name in chosen]:
            raise UserError(f"--precision {text} names {repeated[0]} twice: give each stage one precision")
        chosen |= dict.fromkeys(stages, precision)
    # A prefill of its own comes with the default decoder, beside another it is asked for by name.
    spare = {PREFILL} if DECODER in chosen else set()
    chosen = {stage: name for stage, name in target.default_precision.items() if stage not in spare} | chosen
    if PREFILL in chosen and (chosen[PREFILL], chosen[DECODER]) != (PREFILL_PRECISION, PREFILL_DECODER):
        raise UserError(
            f"a prefill of its own is {PREFILL}={PREFILL_PRECISION} beside {DECODER}={PREFILL_DECODER}, and this is "
            f"{PREFILL}={chosen[PREFILL]} beside {DECODER}={chosen[DECODER]}: other decoders run prompts themselves"
        )
    return chosen
