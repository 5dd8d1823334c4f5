"""TensorRT's log, the only place where it says what went wrong: collected, and explained with a remedy."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from mobilevlm.commands import command

from .cuda_device import NVMAP

KEPT = 200  # latest lines
MORE_PIECES = command("export/build_engines.py", "--blocks", "N")
NO_KERNEL = "Could not find any implementation"
# Texts in the log, and what helps. The first that is found counts.
REMEDIES = (
    (("NvMapMemAlloc", "NvRmMemInit"), f"memory could not be had. {NVMAP}"),
    (
        ("OutOfMemory", "out of memory", "cudaErrorMemoryAllocation", "Requested size was", "std::bad_alloc"),
        "memory is short: close other programs, log out of the desktop (sudo systemctl isolate multi-user.target), or "
        f"prepare the bundle with more pieces ({MORE_PIECES})",
    ),
    (
        ("not compatible with this version", "incompatible device", "expecting library version", "magicTag"),
        "engines do not move between machines or versions: make them here",
    ),
    (
        ("Plugin not found", "No importer registered", "Unsupported", "opset"),
        "this TensorRT does not know the graph's operators: prepare the bundle with this version of mobilevlm",
    ),
    (
        ("Cannot compile for target", "Cannot compile operation"),
        "these GPUs have no arithmetic for the bundle's precision (Turing, SM75, has none for int4 and fp32): build "
        "the bundle with --precision fp16, or name newer GPUs",
    ),
    ((NO_KERNEL,), "this TensorRT has no kernel for it: update JetPack, or report this line"),
    (("optimization profile", "shape constraints"), "graph and profiles do not fit: prepare the bundle again"),
)


def make_logger(trt: ModuleType) -> Any:
    """Makes an `ILogger` that keeps warnings and errors; its `lines` are the latest of them."""

    class Logger(trt.ILogger):  # type: ignore[name-defined]  # the module is known at run time only
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if severity not in (trt.ILogger.Severity.INFO, trt.ILogger.Severity.VERBOSE):
                self.lines = [*self.lines[1 - KEPT :], f"{severity.name}: {msg.strip()}"]

    return Logger()


def explained(what: str, lines: list[str], build: str) -> str:
    """Explains why TensorRT refused a step, and what helps.

    Args:
        what: the step, such as `decoder.0 could not be built`.
        lines: of the log, and lines that the driver printed.
        build: command that builds the engines on this machine.
    """
    errors = [line.partition(": ")[2] for line in lines if line.startswith(("ERROR", "INTERNAL_ERROR"))]
    said = errors[0] if errors else (lines[-1] if lines else "TensorRT gave no reason")
    text = "\n".join(lines)
    remedy = next((remedy for marks, remedy in REMEDIES if any(mark in text for mark in marks)), None)
    return f"{what} ({said}): {remedy or 'see the lines above'}. Then: {build}"
