"""MobileVLM on the edge: a checkpoint goes in, a verified bundle for one device comes out, a small runtime answers.

Importing this package loads nothing heavy. `MobileVLM` (PyTorch, transformers) is imported when it is first asked for;
the device side, `mobilevlm.runtime`, never needs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .model.model import MobileVLM

__version__ = "0.1.0"
__all__ = ["MobileVLM", "__version__"]

_root = Path(__file__).resolve().parents[1]
if (_root / "pyproject.toml").is_file():  # a clone: engines/, export/, runtime/, ... beside us are our subpackages
    __path__.append(str(_root))


def __getattr__(name: str) -> Any:
    """Import `MobileVLM` on first use, so that the torch-free side can import this package."""
    if name == "MobileVLM":
        from .model.model import MobileVLM

        return MobileVLM
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
