"""Failures of ONNX Runtime, whose exceptions have no public base class, as errors that name the bundle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mobilevlm.commands import localized
from mobilevlm.engines.bundle import Bundle, BundleError
from mobilevlm.refusals import refusal_of

# What its bindings turn C++ exceptions into; a message that quotes damaged bytes becomes the last.
BINDINGS = (RuntimeError, MemoryError, UnicodeDecodeError)


def is_ort_failure(error: Exception) -> bool:
    """Tells whether ONNX Runtime raised an error: its own, or what its bindings turn C++ ones into."""
    return "onnxruntime" in type(error).__module__ or isinstance(error, BINDINGS)


@contextmanager
def failures_named(bundle: Bundle, stage: str) -> Iterator[None]:
    """Turns ONNX Runtime's failures in the block into errors for the user.

    Args:
        bundle: whose stage runs.
        stage: its name.

    Raises:
        BundleError: the stage could not be run.
    """
    try:
        yield
    except Exception as error:
        if not is_ort_failure(error):
            raise
        failed = f"the {stage} stage of {bundle.directory} cannot be run"
        if refused := refusal_of(error):  # memory, for one: another copy would not help
            raise BundleError(f"{failed}: {refused}") from None
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise BundleError(
            f"{failed}: {reason}. Copy the bundle again from where it was built, or build it again: "
            f"{localized(bundle.manifest.command)}"
        ) from None
