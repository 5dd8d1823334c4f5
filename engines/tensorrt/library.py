"""NVIDIA's two libraries that build and run engines, with one API: TensorRT, and TensorRT-RTX for PCs.

TensorRT builds an engine on the GPU that runs it. TensorRT-RTX builds one on any machine, for many GPUs, and compiles
its kernels where it runs.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from types import ModuleType

from mobilevlm.errors import UserError

from ..targets import TARGETS


@dataclass(frozen=True)
class Library:
    """A library that builds and runs engines.

    Attributes:
        name: for people.
        modules: names of its Python module; the first that is installed is used.
        install: how to install it.
    """

    name: str
    modules: tuple[str, ...]
    install: str


TENSORRT = Library(
    "TensorRT",
    ("tensorrt",),
    "on a Jetson: sudo apt install nvidia-jetpack (python3-libnvinfer), and a virtual environment made with "
    "--system-site-packages; elsewhere: pip install tensorrt",
)
RTX = Library("TensorRT-RTX", ("tensorrt_rtx", "tensorrt_rtx_bindings"), "pip install 'mobilevlm[rtx]'")


def library_of(target: str) -> Library:
    """Returns the library that builds and runs the engines of a target."""
    return RTX if TARGETS[target].has_portable_engines else TENSORRT


def is_installed(library: Library) -> bool:
    """Tells whether a library's module can be found; it is not imported."""
    return any(importlib.util.find_spec(name) for name in library.modules)


def import_tensorrt(library: Library = TENSORRT) -> ModuleType:
    """Imports a library's module.

    Raises:
        UserError: it is not installed.
    """
    for name in library.modules:
        try:
            return importlib.import_module(name)
        except ImportError as error:
            # Not the error, which holds the frames above: a builder in them would outlive its call.
            reason = str(error)
    raise UserError(f"{library.name}'s Python module is not installed ({reason}): {library.install}")
