"""The CPUs that bundles are tried on, and which bundles on which."""

from __future__ import annotations

from dataclasses import dataclass

NEEDED = ("numpy", "pillow", "safetensors", "sentencepiece", "onnxruntime")  # by a device, and nothing else
WITHOUT_INT8_CACHE = "1.23.2"  # the newest ONNX Runtime for Python 3.10

# Name to target and precision; None for the target's own.
BUNDLES: dict[str, tuple[str, str | None]] = {
    "host-fp32": ("host", "fp32"),
    "host-fp16": ("host", "fp16"),
    "host-int8": ("host", "int8"),
    "host-default": ("host", "vision=int8,prefill=int8,decoder=int4"),
    "host-no-prefill": ("host", "vision=int8,decoder=int4"),
    "host-amx": ("host", "vision=int8_amx,prefill=int8_amx,decoder=int4"),
    "phone-fp32": ("snapdragon-cpu", "fp32"),
    "phone-int8": ("snapdragon-cpu", "int8"),
    "phone-default": ("snapdragon-cpu", None),
}
ALL = tuple(BUNDLES)
ON_ARM = tuple(name for name in ALL if name != "host-amx")  # int8_amx is Intel's
QUANTIZED = ("host-int8", "host-default", "phone-default")
FLOATS = ("host-fp32", "host-fp16")


@dataclass(frozen=True)
class Cpu:
    """A CPU with a device's packages.

    Attributes:
        name: for people.
        model: QEMU's name for it, with settings; None for this machine's own.
        bundles: names of `BUNDLES`.
        has: features that `engines/cpu.py` finds on it.
        lacks: features that it does not find.
        machine: `aarch64` or `x86_64`.
        python: version of Python.
        onnxruntime: its version; None for that of constraints.txt.
    """

    name: str
    model: str | None
    bundles: tuple[str, ...]
    has: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    machine: str = "x86_64"
    python: str = "3.11"
    onnxruntime: str | None = None

    @property
    def packages(self) -> tuple[str, ...]:
        """What is installed for it."""
        return (*NEEDED, "openvino") if "host-amx" in self.bundles else NEEDED


HERE = Cpu("here", None, ALL)  # what the others are compared with
CPUS = (
    # Older Arm boards: a Raspberry Pi 4.
    Cpu("arm-a72", "cortex-a72", QUANTIZED, has=("asimd",), lacks=("dotprod",), machine="aarch64"),
    # Raspberry Pi 5; stands for Jetson Orin's Cortex-A78AE, which QEMU does not have.
    Cpu("arm-a76", "cortex-a76", ON_ARM, has=("dotprod",), lacks=("i8mm", "sve"), machine="aarch64"),
    # Snapdragon X, Apple M2.
    Cpu("arm-i8mm", "max,sve=off,sme=off", ON_ARM, has=("dotprod", "i8mm"), lacks=("sve", "sme"), machine="aarch64"),
    # Servers: Graviton 3 and 4.
    Cpu("arm-sve", "max", QUANTIZED, has=("i8mm", "sve", "sme"), machine="aarch64"),
    Cpu("arm-a76-older", "cortex-a76", FLOATS, machine="aarch64", onnxruntime=WITHOUT_INT8_CACHE),
    # No VNNI: products of int8 are added in pairs, in 16 bits. `noTSX`, for QEMU has none and would say so.
    Cpu("x86-avx2", "Haswell-noTSX", ALL, has=("avx2",), lacks=("avx512f", "avx_vnni")),
    Cpu("x86-avx", "SandyBridge", QUANTIZED, has=("avx",), lacks=("avx2",)),
    Cpu("here-python3.10", None, FLOATS, python="3.10", onnxruntime=WITHOUT_INT8_CACHE),
)
