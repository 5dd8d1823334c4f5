"""The one answer to whether a bundle is for TensorRT, and which target it was built for."""

from __future__ import annotations

from ..bundle import Bundle, BundleError
from ..targets import TARGETS, TENSORRT, Target

# Every target whose graphs TensorRT or TensorRT-RTX runs, by name.
TENSORRT_TARGETS: dict[str, Target] = {name: row for name, row in TARGETS.items() if row.backend == TENSORRT}


def find_tensorrt_target(bundle: Bundle) -> Target | None:
    """Returns the TensorRT target that a bundle was built for; None where it was built for another backend."""
    return TENSORRT_TARGETS.get(bundle.manifest.target)


def tensorrt_target(bundle: Bundle, otherwise: str) -> Target:
    """Returns the TensorRT target that a bundle was built for.

    Args:
        bundle: an opened bundle, compiled or not.
        otherwise: the end of the error message for a bundle of another backend, behind `... is for target NAME`; begins
            with its punctuation, such as `, which has no TensorRT graphs`.

    Raises:
        BundleError: the bundle was built for another backend.
    """
    target = find_tensorrt_target(bundle)
    if target is None:
        raise BundleError(f"{bundle.directory} is for target {bundle.manifest.target}{otherwise}")
    return target
