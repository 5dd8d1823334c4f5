"""How a stage's linear layers are stored and computed: one module per precision, chosen by its file name.

A precision module has `TOLERANCE`, the largest difference from PyTorch in float32 its stages may show, as a fraction of
the largest reference value (a second guard, behind decibels); `BYTES`, what a weight takes on disk; `TABLE_DTYPE`, in
which the embedding table that goes with it is stored (int8: with a scale for each row); and `linear(graph, x, names)`.
It may have `up_to_factors`, see `Graph.up_to_factors`.

TensorRT's own, `tensorrt_…`, write strongly typed graphs. `Target.module` knows which is whose.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..split.graph import Precision


def precision(name: str) -> Precision:
    """The module of a precision."""
    return import_module(f".{name}", __package__)
