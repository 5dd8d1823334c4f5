"""This machine: its memory, how much of it a bundle needs, and what decides how a bundle is computed here."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.errors import UserError

from .cores import usable_cores
from .cpu import this_cpu
from .stage_form import StageForm

# Packages that run graphs; JetPack's TensorRT is no package of Python's registry everywhere, but its bindings are.
RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-qnn", "openvino", "tensorrt")


def peak_rss_bytes() -> int:
    """Returns the peak resident memory of this process in bytes; 0 where the system does not tell."""
    try:  # the other way counts what a process was before it became this one
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def available_bytes() -> int | None:
    """Returns the bytes of memory that can be taken without swapping; None where the system does not tell."""
    return _meminfo("MemAvailable")


def total_bytes() -> int | None:
    """Returns the bytes of memory that this machine has; None where the system does not tell."""
    return _meminfo("MemTotal")


def _meminfo(name: str) -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)


def require_memory(weight_bytes: Mapping[str, int], forms: Mapping[str, StageForm]) -> None:
    """Refuses stages that do not fit in memory: ONNX Runtime expands float16 weights to float32 there.

    float32 weights are mapped, and read from disk again when memory is short.

    Args:
        weight_bytes: stage to size of its weights on disk.
        forms: of the stages.

    Raises:
        UserError: less is free than the float16 stages take.
    """
    needed = sum(2 * weight_bytes[stage] for stage, form in forms.items() if form.widened)
    available = available_bytes()
    if available is not None and needed > available:
        raise UserError(
            f"float16 stages are expanded to {needed / 1e9:.1f} GB in memory on a CPU, {available / 1e9:.1f} GB are "
            "free. float32 stages stay on disk instead: build with --precision fp32"
        )


def require_cache_memory(config: ModelConfig, max_context: int, itemsize: int) -> None:
    """Refuses a kv cache that this machine can never hold; its memory is taken as it fills.

    Args:
        config: the model.
        max_context: tokens that the kv cache holds.
        itemsize: bytes of a value.

    Raises:
        UserError: it is larger than all memory.
    """
    values = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * max_context
    total = total_bytes()
    if total is not None and values * itemsize > total:
        raise UserError(
            f"a kv cache of {max_context} tokens takes {values * itemsize / 1e9:.1f} GB in {config.num_hidden_layers} "
            f"layers, this machine has {total / 1e9:.1f} GB. Build the bundle with a smaller --max-context"
        )


def has_amx() -> bool:
    """Tells whether this CPU has a matrix unit for int8 (AMX)."""
    return "amx_int8" in this_cpu().features


def fingerprint() -> dict[str, str]:
    """Returns what decides how a bundle's graphs are computed here: CPU, cores in use, versions of the runtimes."""
    found = {"cpu": str(this_cpu()), "cores": str(usable_cores())}
    for package in RUNTIMES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
