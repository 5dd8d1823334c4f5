"""How a stage's linear layers are stored and computed: one module per precision, chosen by its file name.

A precision's module has `FACTS`, which everything else about it is decided by, and is a `split.graph.LinearForm`. A
backend that needs a form of its own has it under its own name: `tensorrt_int8` is what `int8` means for TensorRT.

The modules import PyTorch and ONNX in their functions: facts are asked for before either is known to be installed.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .facts import Facts

if TYPE_CHECKING:
    from ..split.graph import Graph


class Precision(Protocol):
    """Contents of a precision module: a `split.graph.LinearForm` and its facts."""

    FACTS: Facts

    def linear(self, graph: Graph, x: str, names: tuple[str, ...]) -> str:
        """Writes `x @ weight.T`, see `split.graph.LinearForm`.

        Args:
            graph: receives nodes and weights.
            x: name of the input, (..., in).
            names: checkpoint layers without `.weight`, packed side by side into one output.
        """


def precision(name: str) -> Precision:
    """Returns the module of a precision."""
    module: Any = import_module(f".{name}", __package__)
    return module


def module_name(backend: str, name: str) -> str:
    """Returns the file name of a precision: the backend's own form of it where there is one.

    Args:
        backend: of the target.
        name: as `--precision` takes it.
    """
    own = f"{backend}_{name}"
    return own if (Path(__file__).parent / f"{own}.py").is_file() else name


def facts_of(backend: str, name: str) -> Facts:
    """Returns the facts of a precision.

    Args:
        backend: of the target.
        name: as `--precision` takes it.
    """
    return precision(module_name(backend, name)).FACTS
