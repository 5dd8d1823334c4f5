"""Runs a bundle's sample where the bundle was not found right before."""

from __future__ import annotations

from .decoder import Decoder
from .self_check import require, run_sample
from .verdicts import is_known_right, key_of, remember_right


def check_once(decoder: Decoder) -> None:
    """Runs the sample of an opened bundle the first time on a machine; closes a bundle that fails.

    Raises:
        BundleError: it computes something else here than where it was built, or its sample is damaged.
    """
    key = key_of(decoder.bundle, decoder.runner)
    if is_known_right(decoder.bundle, key):
        return
    try:
        require(decoder.bundle, run_sample(decoder))
    except BaseException:
        decoder.close()
        raise
    remember_right(decoder.bundle, key)
