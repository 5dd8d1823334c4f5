"""The targets: a row each. Command-line choices, the README table and tests read this table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mobilevlm.errors import UserError

from .machine import has_amx
from .ort.openvino import is_installed
from .stages import DECODER, PREFILL, VISION

STAGES_WITH_PRECISION = (VISION, DECODER)
# Precisions before which channels are equalised (`export/weights/equalize.py`).
INT8_AMX = "int8_amx"  # which OpenVINO runs
INT4 = ("int4", "int4_symmetric")
QUANTIZED = ("int8", INT8_AMX, *INT4)
# What a prefill of its own can have, and the decoder it goes with: one that is slower at many rows.
PREFILL_PRECISIONS, PREFILL_DECODER = ("int8", INT8_AMX), "int4"
# For many rows on the CPU of this machine: see README's tables.
QUICKEST_INT8 = INT8_AMX if has_amx() and is_installed() else "int8"
TENSORRT = "tensorrt"  # a backend
# Of a decoder: those whose weights or ranges are chosen on calibration data (`export/calibration/conversations.py`).
CALIBRATED = ("int4", "int4_symmetric", "a16w8", "a16w4")


@dataclass(frozen=True)
class Target:
    """One kind of device.

    Attributes:
        name: what `--target` takes.
        device: for people.
        backend: which runner executes the stages.
        lowering: how the decoder's attention and cache are written (`export/lowerings/`).
        prefill_lowering: the same of a prefill of its own.
        precisions: stage to those worth having, the most exact first: one that another of the stage beats in speed and
            exactness alike is left out. A prefill of its own has one of `PREFILL_PRECISIONS`.
        default_precision: stage to precision when none is asked for.
        default_context: rows of the kv cache when none are asked for; None for all that the model knows.
        xnnpack: whether the device's ONNX Runtime may have XNNPACK (`runtime/ort/xnnpack.py`).
        engine_layers: most layers of the decoder in one engine, where building all at once takes more memory than there
            is; None for all of them.
        has_portable_engines: whether engines are made anywhere, by TensorRT-RTX, which compiles kernels where they run.
    """

    name: str
    device: str
    backend: str
    lowering: str
    prefill_lowering: str
    precisions: dict[str, tuple[str, ...]]
    default_precision: dict[str, str]
    default_context: int | None = None
    xnnpack: bool = False
    engine_layers: int | None = None
    has_portable_engines: bool = False

    def module(self, precision: str) -> str:
        """Which file of `export/precisions/` writes a precision: TensorRT has forms of its own."""
        return f"tensorrt_{precision}" if self.backend == TENSORRT else precision

    def calibrates(self, stage: str, precision: str) -> bool:
        """Whether weights or ranges of a stage are chosen on calibration data."""
        return self.fixes_ranges(precision) or stage == DECODER and precision in CALIBRATED

    def fixes_ranges(self, precision: str) -> bool:
        """Whether it cannot do without calibration data: a layer's values have one range, whatever comes."""
        return self.backend == "qnn" or self.backend == TENSORRT and precision == "int8"

    def offers_to_xnnpack(self, stage: str, precision: str) -> bool:
        """Whether XNNPACK is asked first: it takes products of floats whose sizes are all known beforehand."""
        return self.xnnpack and stage == VISION and precision not in QUANTIZED


TARGETS = {
    target.name: target
    for target in (
        Target(
            name="host",
            device="the CPU at hand (x86-64 or Arm), ONNX Runtime",
            backend="ort",
            lowering="ort",
            prefill_lowering="ort_prefill",
            # int4 saves reading weights, which is what takes the time of the decoder's single rows. A picture's
            # hundreds are slower in it than in int8, and it cost the demo model 1.5 points of GQA and 37.5 of MME.
            precisions={VISION: ("fp32", "fp16", INT8_AMX, "int8"), DECODER: ("fp32", "fp16", "int8", "int4")},
            # The quickest in README's table.
            default_precision={VISION: QUICKEST_INT8, PREFILL: QUICKEST_INT8, DECODER: PREFILL_DECODER},
        ),
        Target(
            name="snapdragon",
            device="the Hexagon NPU of a Snapdragon, ONNX Runtime QNN",
            backend="qnn",
            lowering="qnn",
            prefill_lowering="qnn",
            precisions={VISION: ("a16w8",), DECODER: ("a16w8", "a16w4")},
            default_precision={VISION: "a16w8", DECODER: "a16w8"},
            default_context=512,
        ),
        Target(
            name="snapdragon-cpu",
            device="the CPU of a phone or board (Arm), ONNX Runtime: XNNPACK for floats, KleidiAI for int4",
            backend="ort",
            lowering="ort_xnnpack",
            prefill_lowering="ort_xnnpack",
            precisions={VISION: ("fp32", "fp16", "int8"), DECODER: ("fp32", "fp16", "int8", "int4_symmetric")},
            # No prefill of its own: KleidiAI has int4 kernels for many rows, and a phone's disk is small.
            default_precision={VISION: "int8", DECODER: "int4_symmetric"},
            xnnpack=True,
        ),
        *(
            Target(
                name=name,
                device=device,
                backend=TENSORRT,
                lowering="tensorrt_delta",
                prefill_lowering="tensorrt_delta",
                precisions={VISION: ("fp32", "fp16", "int8"), DECODER: ("fp32", "fp16", "int8", "int4")},
                default_precision={VISION: "fp16", DECODER: decoder},
                default_context=context,
                engine_layers=layers,
                has_portable_engines=is_portable,
            )
            for name, device, decoder, context, layers, is_portable in (
                ("orin", "Jetson AGX Orin, TensorRT", "fp16", 2048, None, False),
                ("orin-nx", "Jetson Orin NX, TensorRT", "fp16", 1024, None, False),
                ("orin-nano", "Jetson Orin Nano (8 GB), TensorRT", "int4", 1024, 12, False),
                ("cuda", "an NVIDIA GPU in a PC or server, TensorRT", "fp16", None, None, False),
                ("rtx", "a GeForce RTX or RTX GPU in a PC (Linux, Windows), TensorRT-RTX", "fp16", None, None, True),
            )
        ),
    )
}


def candidate_names(target: Target) -> list[str]:
    """Precisions of which any may be the quickest on a board: nobody knows before it is measured."""
    return [name for name in target.precisions[DECODER] if name != "fp32"]


def has_int8_cache(precisions: Mapping[str, str]) -> bool:
    """Whether a bundle's kv cache is int8: a decoder's steps are quicker on it, its prompts slower.

    So it comes with a prefill of its own (`export/lowerings/ort_prefill.py`), which reads it otherwise.
    """
    return PREFILL in precisions


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
    if text is None:
        return dict(target.default_precision)
    chosen: dict[str, str] = {}
    for part in text.split(","):
        stage, separator, precision = part.strip().rpartition("=")
        available = list(dict.fromkeys(name for names in target.precisions.values() for name in names))
        if precision not in available:
            raise UserError(
                f"precision {precision!r} is not available for target {target.name}; it has {', '.join(available)}"
            )
        if separator and stage not in (*STAGES_WITH_PRECISION, PREFILL):
            known = ", ".join((*STAGES_WITH_PRECISION, PREFILL))
            raise UserError(f"{stage!r} is no stage with a precision; choose from {known}")
        if stage == PREFILL and PREFILL not in target.default_precision:
            raise UserError(f"target {target.name} has no prefill of its own: its decoder runs prompts itself")
        stages = (stage,) if separator else STAGES_WITH_PRECISION
        if repeated := [name for name in stages if name in chosen]:
            raise UserError(f"--precision {text} names {repeated[0]} twice: give each stage one precision")
        chosen |= {name: _of_stage(name, precision, target, named=bool(separator)) for name in stages}
    # A prefill of its own comes with the default decoder, beside another it is asked for by name.
    spare = {PREFILL} if DECODER in chosen else set()
    chosen = {stage: name for stage, name in target.default_precision.items() if stage not in spare} | chosen
    if PREFILL in chosen and not (chosen[PREFILL] in PREFILL_PRECISIONS and chosen[DECODER] == PREFILL_DECODER):
        raise UserError(
            f"a prefill of its own is {PREFILL}={QUICKEST_INT8} beside {DECODER}={PREFILL_DECODER}, and this is "
            f"{PREFILL}={chosen[PREFILL]} beside {DECODER}={chosen[DECODER]}: other decoders run prompts themselves"
        )
    return chosen


def _of_stage(stage: str, precision: str, target: Target, named: bool) -> str:
    """What a stage has for a precision: itself, or for one that was asked for all stages the smallest quantised one."""
    own = target.precisions.get(stage, (precision,))
    if precision in own:
        return precision
    if not {precision, own[-1]} <= set(QUANTIZED):
        raise UserError(f"target {target.name} has no {stage}={precision}: choose {stage}= from {', '.join(own)}")
    if named:
        raise UserError(
            f"target {target.name} has no {stage}={precision}, because {stage}={own[-1]} is quicker there and more "
            f"exact: use {stage}={own[-1]}"
        )
    return own[-1]
