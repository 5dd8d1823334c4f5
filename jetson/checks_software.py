"""Checks of the installed software: release, Python, TensorRT, CUDA for Python."""

from __future__ import annotations

from mobilevlm.commands import is_clone

from .findings import ADVICE, OK, PROBLEM, UNKNOWN, Finding, System
from .releases import FAILURES, STACKS, is_before_failures, stack_of

MODULES = ("tensorrt", "tensorrt-cu13", "tensorrt-cu13-bindings")  # apt's, and the wheels' for CUDA 13
SETUP = f"run `bash jetson/setup.sh`{'' if is_clone() else ' in a clone of this project'}"
NVMAP_TEXT = "NvMapMemAllocInternalTagged: 1075072515 error 12"
AFFECTED = ", ".join(FAILURES)
LINES = ", ".join(stack.name for stack in STACKS.values())


def check_release(system: System) -> Finding:
    """Checks whether this project runs on the release of Jetson Linux."""
    board = system.board
    if board.l4t is None:
        return Finding("jetpack", UNKNOWN, "neither /etc/nv_tegra_release nor dpkg names the L4T version")
    found = f"L4T {board.l4t}, JetPack {board.jetpack or 'not in the table'}"
    stack = stack_of(board.l4t)
    if stack is None:
        return Finding("jetpack", PROBLEM, found, f"flash a release that this project is for: {LINES}")
    if board.jetpack is None:
        return Finding(
            "jetpack", ADVICE, found, f"treated as {stack.name}; the table of releases (jetson/releases.py) lacks it"
        )
    return Finding("jetpack", OK, found)


def check_nvmap(system: System) -> Finding:
    """Checks whether large allocations were reported to fail on the release although memory was free."""
    l4t = system.board.l4t
    if l4t is None:
        return Finding("nvmap", UNKNOWN, "the L4T version is not known")
    if l4t in FAILURES:
        return Finding(
            "nvmap",
            ADVICE,
            f"on L4T {l4t} was reported to fail although memory was free (`{NVMAP_TEXT}`): {FAILURES[l4t].what}; "
            f"{FAILURES[l4t].source}",
            "the cause is the driver's allocator or fragmented memory, not a lack of it: restart the board and start "
            "the engine first; see cma for builds",
        )
    if is_before_failures(l4t):
        return Finding("nvmap", OK, f"no failures of large allocations are reported of L4T {l4t} or older")
    text = f"nothing is reported of large allocations on L4T {l4t}; there are failures of {AFFECTED}"
    return Finding("nvmap", UNKNOWN, text)


def check_python(system: System) -> Finding:
    """Checks whether Python is the version that TensorRT's apt package is for."""
    stack = stack_of(system.board.l4t)
    if system.python is None or stack is None:
        return Finding("python", UNKNOWN, "the Python or the release is not known")
    if system.python != stack.python:
        return Finding(
            "python",
            PROBLEM,
            f"Python {system.python}; TensorRT's module of {stack.name} is for {stack.python}",
            f"{SETUP}, which makes an environment of Python {stack.python}, and use that",
        )
    return Finding("python", OK, f"Python {system.python}")


def check_tensorrt(system: System) -> Finding:
    """Checks whether TensorRT is installed, importable, and of the release's version."""
    stack = stack_of(system.board.l4t)
    libraries = [name for name in system.board.packages if name.startswith("libnvinfer") and name[10:].isdigit()]
    library = system.board.packages[libraries[0]] if libraries else None
    module = next((system.distributions[name] for name in MODULES if name in system.distributions), None)
    if module is None:
        what = f"the library {library} is installed, its Python module is not" if library else "it is not installed"
        return Finding("tensorrt", PROBLEM, what, f"{SETUP} (apt: python3-libnvinfer, an environment that sees it)")
    found = f"TensorRT {module}" + (f", library {library}" if library else "")
    if system.import_error:
        return Finding("tensorrt", PROBLEM, f"{found}: `import tensorrt` fails: {system.import_error}", SETUP)
    if library and not library.startswith(".".join(module.split(".")[:2]) + "."):
        return Finding(
            "tensorrt",
            PROBLEM,
            f"{found}: the module and the library differ",
            "remove the other one with pip, so that the apt package's is found",
        )
    if stack and not module.startswith(f"{stack.tensorrt}."):
        return Finding(
            "tensorrt",
            ADVICE,
            f"{found}; {stack.name} brings {stack.tensorrt}",
            "fine when intended; engines of one version do not run on another, so build them again",
        )
    return Finding("tensorrt", OK, found)


def check_cuda_python(system: System) -> Finding:
    """Checks whether the CUDA runtime's Python bindings are installed and of the release's CUDA version."""
    stack = stack_of(system.board.l4t)
    version = system.distributions.get("cuda-bindings")
    wanted = stack.cuda_bindings if stack else "cuda-bindings"
    if version is None:
        return Finding("cuda-python", PROBLEM, "cuda-bindings is not installed", f"{SETUP} (pip: '{wanted}')")
    if stack and version.split(".")[0] != stack.cuda.split(".")[0]:
        return Finding(
            "cuda-python",
            PROBLEM,
            f"cuda-bindings {version}, CUDA here is {stack.cuda}",
            f"pip install '{wanted}'",
        )
    return Finding("cuda-python", OK, f"cuda-bindings {version}")


CHECKS = (check_release, check_python, check_tensorrt, check_cuda_python, check_nvmap)
