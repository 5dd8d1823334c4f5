"""What a CPU is said to have, against the system's own list and against what was made of it."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest

from mobilevlm.engines import cpu
from mobilevlm.engines.machine import fingerprint

X86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="CPUID is an instruction of x86")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's own list of features")


@X86
@LINUX
def test_cpuid_finds_what_linux_lists():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next(line.split(":")[1].split() for line in lines if line.startswith("flags"))
    listed = {name for name in cpu.X86 if name.replace("sse4.1", "sse4_1") in flags}
    found = set(cpu.this_cpu().features)
    # An older Linux has no name yet for the newest ones.
    assert listed <= found and not {"avx2", "fma", "avx512f", "avx512_vnni", "amx_int8"} & (found - listed)


@X86
@LINUX
def test_without_memory_that_can_be_executed_linux_is_asked(monkeypatch):
    def refused(code: bytes) -> int:
        raise PermissionError("no memory that can be executed")

    asked = set(cpu.this_cpu().features)
    monkeypatch.setattr(cpu, "_executable", refused)
    cpu._functions.cache_clear()
    cpu.this_cpu.cache_clear()
    try:
        assert set(cpu.this_cpu().features) <= asked and cpu.this_cpu().architecture == "x86_64"
    finally:
        cpu.this_cpu.cache_clear()


@X86
def test_registers_that_the_system_does_not_save_are_not_there():
    """AVX-512 in CPUID alone is none: XCR0 says what survives a switch of tasks."""
    everything = {leaf: (7, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF) for leaf in (0, 1, 7)}

    def cpuid(leaf: int, subleaf: int) -> tuple[int, ...]:
        return everything[leaf]

    where = cpu.X86["avx512_vnni"]
    assert cpu._x86_has(cpuid, cpu.AVX512, *where) and not cpu._x86_has(cpuid, cpu.AVX, *where)


@pytest.mark.parametrize(
    "features, kernel",
    [
        (("avx2", "avx512f", "avx512bw", "avx512_vnni", "amx_int8"), "AMX"),
        (("avx2", "avx_vnni", "avx512bw", "avx512_vnni"), "AVX-512 VNNI"),
        (("avx2", "avx512f", "avx512bw"), "AVX-512 without VNNI"),
        (("avx2", "avx_vnni"), "AVX-VNNI"),
        (("sse4.1", "avx", "avx2"), "AVX2"),
        (("asimd", "dotprod", "i8mm"), "Arm i8mm"),
        (("asimd",), "Arm NEON"),
        ((), "generic"),
    ],
)
def test_the_kernel_of_int8_products(features, kernel):
    assert cpu.Cpu("x86_64", "any", features).int8_kernel == kernel


def test_a_fingerprint_names_cpu_cores_and_runtimes():
    found = fingerprint()
    assert found["cpu"] == str(cpu.this_cpu()) and int(found["cores"]) >= 1 and found["onnxruntime"]
