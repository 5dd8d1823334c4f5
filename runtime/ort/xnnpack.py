"""Which stages are offered to ONNX Runtime's XNNPACK provider before its CPU kernels, and with which threads.

XNNPACK takes products of floats whose sizes are all known beforehand (`xnnpack_coverage.py`): those of a vision
stage that is not quantised. A decoder's number of tokens varies, and for quantised products the CPU provider has Arm
kernels, KleidiAI's among them.
Settings: https://onnxruntime.ai/docs/execution-providers/Xnnpack-ExecutionProvider.html#recommended-configuration
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import onnxruntime as ort

from mobilevlm.engines.cores import allowed_cores, quota_cores, usable_cores

PROVIDER, CPU_PROVIDER = "XnnpackExecutionProvider", "CPUExecutionProvider"
CPU_DIRECTORY = Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class Placement:
    """Options that a session of one stage is opened with.

    Attributes:
        providers: ONNX Runtime's execution providers, the preferred first, with their options.
        entries: the session's configuration.
        threads: number in ONNX Runtime's own pool; 0 for its choice.
    """

    providers: tuple[tuple[str, dict[str, str]], ...] = ((CPU_PROVIDER, {}),)
    entries: dict[str, str] = field(default_factory=dict)
    threads: int = 0

    @property
    def uses_xnnpack(self) -> bool:
        """Whether XNNPACK is among the providers."""
        return self.providers[0][0] == PROVIDER


def placement(offered: bool, available: Sequence[str], cores: int, threads: int = 0) -> Placement:
    """Chooses where a stage runs.

    Args:
        offered: whether the bundle offers the stage to XNNPACK, see `StageForm`.
        available: the providers this ONNX Runtime has.
        cores: physical ones of this machine that may be used.
        threads: number in ONNX Runtime's pool where XNNPACK has none; 0 for its choice.
    """
    if not offered or PROVIDER not in available:
        return Placement(threads=threads)
    # XNNPACK has threads of its own, and ONNX Runtime's would be in their way, spinning.
    return Placement(
        ((PROVIDER, {"intra_op_num_threads": str(cores)}), (CPU_PROVIDER, {})),
        {"session.intra_op.allow_spinning": "0"},
        threads=1,
    )


def placement_here(offered: bool) -> Placement:
    """Returns `placement` on this machine; says on stderr when XNNPACK is missed."""
    available = ort.get_available_providers()
    if offered and PROVIDER not in available:
        _say_it_is_missing()
    return placement(offered, available, min(physical_cores(), usable_cores()), threads_within_quota())


def threads_within_quota() -> int:
    """Number of threads for ONNX Runtime's pool in a container with less time than it has cores; 0 elsewhere."""
    quota = quota_cores()
    return quota if quota is not None and quota < allowed_cores() else 0


@cache
def _say_it_is_missing() -> None:
    """Prints one line, once in a process."""
    print(
        f"ONNX Runtime {ort.__version__} here has no XNNPACK: the vision stage runs on its own CPU kernels instead. "
        "XNNPACK is in the Android package com.microsoft.onnxruntime:onnxruntime-android, and in builds --use_xnnpack",
        file=sys.stderr,
    )


def physical_cores(directory: Path = CPU_DIRECTORY) -> int:
    """Counts the physical cores of this machine; logical ones where the system does not tell which share a core."""
    topologies = [path / "topology" for path in directory.glob("cpu[0-9]*")]
    try:
        ids = {tuple((path / name).read_text() for name in ("physical_package_id", "core_id")) for path in topologies}
    except OSError:  # a core that is switched off has no such files
        ids = set()
    return len(ids) or os.cpu_count() or 1
