"""The CUDA runtime's Python bindings: their import, facts about the GPU, and errors as sentences.

Every call of theirs returns a tuple that begins with an error number; an ignored error surfaces elsewhere, later.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from mobilevlm.commands import command
from mobilevlm.errors import UserError

TEGRA_FILE = Path("/etc/nv_tegra_release")
INSTALL = (
    "pip install 'cuda-python>=13' on JetPack 7 (CUDA 13), pip install 'cuda-python<13' on JetPack 6 (CUDA 12); "
    "on a PC for --target rtx, pip install 'mobilevlm[rtx]'"
)
# The driver's own words for it on a Jetson, on stderr: NvMapMemAllocInternalTagged: ... error 12.
NVMAP = (
    "On a Jetson this also happens with memory free, when it is in pieces, and on L4T 36.4.4 to 36.5.0 with any large "
    "allocation (NvMap): close other programs, log out of the desktop (sudo systemctl isolate multi-user.target), or "
    f"restart the board and run this first; {command('jetson/doctor.py')} says whether a larger pool (cma=) helps"
)
REMEDIES = {
    "cudaErrorMemoryAllocation": f"the GPU's memory is full. {NVMAP}",
    "cudaErrorNoDevice": "there is no NVIDIA GPU here, or not for this user: sudo usermod -aG video,render $USER",
    "cudaErrorInsufficientDriver": f"there is no NVIDIA driver here, or it is older than these bindings: {INSTALL}",
    "cudaErrorInitializationError": "the driver cannot be reached; in a container, start it with --runtime nvidia",
    "cudaErrorIllegalAddress": "the GPU's state is lost: end this program and start it again",
    "cudaErrorLaunchFailure": "the GPU's state is lost: end this program and start it again",
}


class CudaError(UserError):
    """A failed call of the CUDA runtime; the message says what helps.

    Args:
        call: name of the function.
        name: of the error, such as cudaErrorMemoryAllocation.
        text: CUDA's description of it.

    Attributes:
        name: of the error.
    """

    def __init__(self, call: str, name: str, text: str):
        self.name = name
        remedy = REMEDIES.get(name, "run it again; if it persists, restart the machine and see `sudo dmesg | tail`")
        super().__init__(f"{call} failed ({name}: {text}): {remedy}")


@cache
def bindings() -> ModuleType:
    """Returns the module of the runtime's functions, with the first GPU selected.

    Raises:
        UserError: it is not installed.
        CudaError: there is no GPU.
    """
    try:
        from cuda.bindings import runtime
    except ImportError:
        try:
            from cuda import cudart as runtime  # before 12.6
        except ImportError:
            raise UserError(f"the package cuda-python is not installed: {INSTALL}") from None
    checked(runtime, "cudaSetDevice", 0)
    return runtime


def call(name: str, *arguments: Any) -> Any:
    """Calls a function of the CUDA runtime.

    Args:
        name: of the function.
        arguments: of the function.

    Returns:
        What follows the error number in its tuple: None, one value, or a tuple of several.

    Raises:
        CudaError: it failed.
    """
    return checked(bindings(), name, *arguments)


def checked(runtime: ModuleType, name: str, *arguments: Any) -> Any:
    """Calls a function of the CUDA runtime in a given module, see `call`.

    Args:
        runtime: the module.
        name: of the function.
        arguments: of the function.
    """
    error, *results = getattr(runtime, name)(*arguments)
    if error != runtime.cudaError_t.cudaSuccess:
        _, error_name = runtime.cudaGetErrorName(error)
        _, text = runtime.cudaGetErrorString(error)
        runtime.cudaGetLastError()  # it would be the next call's
        raise CudaError(name, error_name.decode(), text.decode())
    return results[0] if len(results) == 1 else tuple(results) or None


def compute_capability() -> str:
    """Returns the GPU's compute capability, such as `8.7` for an Orin."""
    attributes = bindings().cudaDeviceAttr
    major = call("cudaDeviceGetAttribute", attributes.cudaDevAttrComputeCapabilityMajor, 0)
    return f"{major}.{call('cudaDeviceGetAttribute', attributes.cudaDevAttrComputeCapabilityMinor, 0)}"


def is_integrated() -> bool:
    """Tells whether the GPU shares the machine's memory, as on a Jetson."""
    return bool(call("cudaDeviceGetAttribute", bindings().cudaDeviceAttr.cudaDevAttrIntegrated, 0))


def memory_bytes() -> tuple[int, int]:
    """Returns free and total bytes of the GPU's memory; on a Jetson, memory the system could give up is not free."""
    free, total = call("cudaMemGetInfo")
    return free, total


def system_release() -> str:
    """Returns the release of a Jetson's system, such as `R36.4.3`; empty elsewhere."""
    try:
        words = TEGRA_FILE.read_text().replace(",", " ").split()
        return f"{words[1]}.{words[words.index('REVISION:') + 1]}"
    except (OSError, IndexError, ValueError):
        return ""
