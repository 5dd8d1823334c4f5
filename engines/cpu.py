"""Features of this CPU, which decide the kernels that ONNX Runtime and OpenVINO take.

x86 is asked itself, by the CPUID instruction: what an operating system lists is the host's under an emulator, and only
Linux lists all. Arm is asked through the operating system, because user programs may not read its registers.
CPUID: Intel's Software Developer's Manual, volume 2A; HWCAP: https://docs.kernel.org/arch/arm64/elf_hwcaps.html
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# Feature: CPUID leaf, subleaf, register (0 to 3: EAX to EDX), bit, and the XCR0 bits its registers are saved under.
AVX, AVX512, AMX = 0x6, 0xE6, 0x60000
X86 = {
    "sse4.1": (1, 0, 2, 19, 0),
    "avx": (1, 0, 2, 28, AVX),
    "f16c": (1, 0, 2, 29, AVX),
    "fma": (1, 0, 2, 12, AVX),
    "avx2": (7, 0, 1, 5, AVX),
    "avx_vnni": (7, 1, 0, 4, AVX),
    "avx_vnni_int8": (7, 1, 3, 4, AVX),
    "avx512f": (7, 0, 1, 16, AVX512),
    "avx512bw": (7, 0, 1, 30, AVX512),
    "avx512_vnni": (7, 0, 2, 11, AVX512),
    "avx512_bf16": (7, 1, 0, 5, AVX512),
    "amx_int8": (7, 0, 3, 25, AMX),
    "amx_bf16": (7, 0, 3, 22, AMX),
}
OSXSAVE = (1, 0, 2, 27, 0)
# Feature: auxiliary vector's entry and bit on Linux; sysctl's name on macOS; IsProcessorFeaturePresent's on Windows.
HWCAP, HWCAP2 = 16, 26
ARM = {
    "asimd": (HWCAP, 1, "hw.optional.AdvSIMD", 19),
    "fp16": (HWCAP, 10, "hw.optional.arm.FEAT_FP16", 67),
    "dotprod": (HWCAP, 20, "hw.optional.arm.FEAT_DotProd", 43),
    "sve": (HWCAP, 22, "hw.optional.arm.FEAT_SVE", 46),
    "sve2": (HWCAP2, 1, "hw.optional.arm.FEAT_SVE2", 47),
    "i8mm": (HWCAP2, 13, "hw.optional.arm.FEAT_I8MM", 66),
    "bf16": (HWCAP2, 14, "hw.optional.arm.FEAT_BF16", 68),
    "sme": (HWCAP2, 23, "hw.optional.arm.FEAT_SME", 70),
}
# Machine code of `void cpuid(leaf, subleaf, uint32 out[4])`, which keeps RBX, and of `uint64 xgetbv(void)` for XCR0.
STORE = bytes.fromhex("0fa2 418900 41895804 41894808 4189500c 5b c3")
CPUID = {
    "posix": bytes.fromhex("53 4989d0 89f8 89f1") + STORE,  # arguments in RDI, RSI, RDX
    "windows": bytes.fromhex("53 89c8 89d1") + STORE,  # in RCX, RDX, R8
}
XGETBV = bytes.fromhex("31c9 0f01d0 48c1e220 4809d0 c3")


@dataclass(frozen=True)
class Cpu:
    """A CPU.

    Attributes:
        architecture: `x86_64`, `aarch64`, or what the system calls another one.
        model: vendor, family and model as numbers or names; no two with different kernels have the same.
        features: those of the tables above that it has and the operating system supports.
    """

    architecture: str
    model: str
    features: tuple[str, ...]

    @property
    def int8_kernel(self) -> str:
        """The fastest instructions that it has for integer products."""
        names = {
            "amx_int8": "AMX",
            "avx512_vnni": "AVX-512 VNNI",
            "avx_vnni": "AVX-VNNI",
            "avx512bw": "AVX-512 without VNNI",
            "avx2": "AVX2",
            "i8mm": "Arm i8mm",
            "dotprod": "Arm dot product",
            "asimd": "Arm NEON",
        }
        return next((name for feature, name in names.items() if feature in self.features), "generic")

    def __str__(self) -> str:
        return f"{self.architecture} {self.model}, int8 on {self.int8_kernel} ({' '.join(self.features)})"


@cache
def this_cpu() -> Cpu:
    """Returns the CPU this process runs on; without features where the system does not tell."""
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64"):
        return _x86()
    if machine in ("aarch64", "arm64"):
        return Cpu("aarch64", _arm_model(), tuple(name for name, where in ARM.items() if _arm_has(*where)))
    return Cpu(machine, platform.processor() or "unknown", ())


def _x86() -> Cpu:
    try:
        cpuid, xgetbv = _functions()
    except (OSError, ValueError, PermissionError):  # a system that runs no code a program has written
        return Cpu("x86_64", platform.processor() or "unknown", _listed_by_linux())
    saved = xgetbv() if _x86_has(cpuid, 0, *OSXSAVE) else 0
    features = tuple(name for name, where in X86.items() if _x86_has(cpuid, saved, *where))
    _, *vendor = cpuid(0, 0)
    name = b"".join(vendor[number].to_bytes(4, "little") for number in (0, 2, 1)).decode("ascii", "replace")
    signature = cpuid(1, 0)[0]
    family, model = signature >> 8 & 15, signature >> 4 & 15 | signature >> 12 & 0xF0
    family += signature >> 20 & 0xFF if family == 15 else 0
    return Cpu("x86_64", f"{name} family {family} model {model}", features)


Cpuid = Callable[[int, int], tuple[int, ...]]  # leaf and subleaf to EAX, EBX, ECX, EDX


def _x86_has(cpuid: Cpuid, saved: int, leaf: int, subleaf: int, register: int, bit: int, xcr0: int) -> bool:
    if cpuid(0, 0)[0] < leaf or subleaf > 0 and cpuid(leaf, 0)[0] < subleaf:
        return False
    return bool(cpuid(leaf, subleaf)[register] >> bit & 1) and saved & xcr0 == xcr0


@cache
def _functions() -> tuple[Cpuid, Callable[[], int]]:
    """Returns CPUID and XGETBV as functions.

    Raises:
        OSError: the system gives no memory that can be executed.
    """
    code, offset = CPUID["windows" if sys.platform == "win32" else "posix"], 64
    code = code.ljust(offset, b"\xcc") + XGETBV
    address = _executable(code)
    raw = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p)(address)

    def cpuid(leaf: int, subleaf: int) -> tuple[int, ...]:
        out = (ctypes.c_uint32 * 4)()
        raw(leaf, subleaf, ctypes.addressof(out))
        return tuple(out)

    return cpuid, ctypes.CFUNCTYPE(ctypes.c_uint64)(address + offset)


_kept: list[mmap.mmap] = []  # mapped as long as the functions may be called


def _executable(code: bytes) -> int:
    if sys.platform == "win32":
        kernel = ctypes.windll.kernel32
        kernel.VirtualAlloc.restype = ctypes.c_void_p
        address = kernel.VirtualAlloc(None, len(code), 0x3000, 0x40)  # committed; read, write, execute
        if not address:
            raise OSError("no memory that can be executed")
        ctypes.memmove(address, code, len(code))
        return address
    memory = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(code)
    _kept.append(memory)
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def _listed_by_linux() -> tuple[str, ...]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ()
    flags = next((line.split(":")[1].split() for line in lines if line.startswith("flags")), [])
    return tuple(name for name in X86 if name.replace("sse4.1", "sse4_1") in flags)


def _arm_has(entry: int, bit: int, sysctl: str, number: int) -> bool:
    if sys.platform == "linux":
        getauxval = ctypes.CDLL(None).getauxval
        getauxval.restype, getauxval.argtypes = ctypes.c_ulong, [ctypes.c_ulong]
        return bool(getauxval(entry) >> bit & 1)
    if sys.platform == "darwin":
        return _sysctl(sysctl, 4) in (b"\1\0\0\0",)
    if sys.platform == "win32":
        return bool(ctypes.windll.kernel32.IsProcessorFeaturePresent(number))
    return False


def _arm_model() -> str:
    """Returns the brand on macOS and Windows; implementer and part of each kind of core on Linux."""
    if sys.platform == "darwin":
        return (_sysctl("machdep.cpu.brand_string", 128) or b"").rstrip(b"\0").decode() or "unknown"
    if sys.platform == "win32":
        return platform.processor() or "unknown"
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    fields = [line.split(":")[1].strip() for line in lines if line.startswith(("CPU implementer", "CPU part"))]
    cores = [f"{implementer}/{part}" for implementer, part in zip(fields[0::2], fields[1::2], strict=False)]
    return "+".join(dict.fromkeys(cores)) or "unknown"


def _sysctl(name: str, size: int) -> bytes | None:
    buffer, length = ctypes.create_string_buffer(size), ctypes.c_size_t(size)
    failed = ctypes.CDLL(None).sysctlbyname(name.encode(), buffer, ctypes.byref(length), None, 0)
    return None if failed else buffer.raw[: length.value]
