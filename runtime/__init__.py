"""Runs engine bundles: image + question in, text out. Needs neither PyTorch nor transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .sampling import Sampling
    from .session import Session

__all__ = ["Sampling", "Session"]


def __getattr__(name: str) -> Any:
    """Import on first use: `--help` should not wait for ONNX Runtime."""
    if name == "Session":
        from .session import Session

        return Session
    if name == "Sampling":
        from .sampling import Sampling

        return Sampling
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
