"""Table of the targets, a row each: command-line choices, the README table and tests read it.

It is the same on every machine: what the machine at hand is good at is asked where a bundle is built.
"""

from __future__ import annotations

from dataclasses import dataclass

from .stages import DECODER, PREFILL, VISION

STAGES_WITH_PRECISION = (VISION, DECODER)
TENSORRT = "tensorrt"  # a backend


@dataclass(frozen=True)
class Target:
    """One kind of device.

    Attributes:
        name: what `--target` takes.
        device: for people.
        backend: which runner executes the stages.
        lowering: how the decoder's attention and cache are written (`export/lowerings/`).
        prefill_lowering: the same of a separate prefill.
        precisions: stage to those worth having, the most exact first: one that another of the stage beats in speed and
            exactness alike is left out. They are files of `export/precisions/`; a separate prefill has one that says
            how it serves as such.
        preferred: stage to the precisions preferred when none is asked for: the first that suits the machine of the
            build, else the last.
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
    preferred: dict[str, tuple[str, ...]]
    default_context: int | None = None
    xnnpack: bool = False
    engine_layers: int | None = None
    has_portable_engines: bool = False

    @property
    def is_chosen_on_its_device(self) -> bool:
        """Whether `--precision auto` makes candidates that the device measures: TensorRT's targets."""
        return self.backend == TENSORRT

    @property
    def is_a_cpu(self) -> bool:
        """Whether its stages run on a CPU."""
        return self.backend == "ort"


TARGETS = {
    target.name: target
    for target in (
        Target(
            name="host",
            device="the CPU at hand (x86-64 or Arm), ONNX Runtime",
            backend="ort",
            lowering="ort",
            prefill_lowering="ort_prefill",
            # int4 saves reading weights, which is what takes the time of the decoder's single rows. An image's
            # hundreds are slower in it than in int8, and it cost the demo model 1.5 points of GQA and 37.5 of MME.
            precisions={VISION: ("fp32", "fp16", "int8_amx", "int8"), DECODER: ("fp32", "fp16", "int8", "int4")},
            # The quickest in README's table.
            preferred={VISION: ("int8_amx", "int8"), PREFILL: ("int8_amx", "int8"), DECODER: ("int4",)},
        ),
        Target(
            name="snapdragon",
            device="the Hexagon NPU of a Snapdragon, ONNX Runtime QNN",
            backend="qnn",
            lowering="qnn",
            prefill_lowering="qnn",
            precisions={VISION: ("a16w8",), DECODER: ("a16w8", "a16w4")},
            preferred={VISION: ("a16w8",), DECODER: ("a16w8",)},
            default_context=512,
        ),
        Target(
            name="snapdragon-cpu",
            device="the CPU of a phone or board (Arm), ONNX Runtime: XNNPACK for floats, KleidiAI for int4",
            backend="ort",
            lowering="ort_xnnpack",
            prefill_lowering="ort_xnnpack",
            precisions={VISION: ("fp32", "fp16", "int8"), DECODER: ("fp32", "fp16", "int8", "int4_symmetric")},
            # No separate prefill: KleidiAI has int4 kernels for many rows, and a phone's disk is small.
            preferred={VISION: ("int8",), DECODER: ("int4_symmetric",)},
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
                preferred={VISION: ("fp16",), DECODER: (decoder,)},
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
    """Precisions of which any may be the quickest on a board, all but the most exact: only measuring tells."""
    return list(target.precisions[DECODER][1:])
